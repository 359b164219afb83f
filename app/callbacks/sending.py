"""One POST to a host that a caller named. Proxies, cookies, redirects and the environment's credentials play no part."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore2

from app.domain.callbacks import Outcome
from app.egress.addresses import Address
from app.egress.network import CheckedNetwork, EgressRefused, Resolver, system_tls
from app.egress.urls import InvalidUrl, checked_url

MAX_ANSWER = 4096
"""Bytes of the answer's body that are read, so that a short one ends in peace; nobody looks at them."""
LINGER = 1.0
"""Seconds that this may take."""


class Sender:
    """Sends to addresses that `allow` lets pass. `time_limit`: seconds for everything up to the answer's head."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        allow: Callable[[Address], bool],
        network: httpcore2.AsyncNetworkBackend,
        tls: ssl.SSLContext | None = None,
        time_limit: float = 15.0,
    ) -> None:
        self._network = CheckedNetwork(resolver=resolver, allow=allow, network=network)
        self._tls = tls
        self.time_limit = time_limit

    async def post(self, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Outcome:
        """How it ended, whatever it was. A 2xx answer has no `error`."""
        began = time.monotonic()
        outcome: Outcome | None = None
        failure = ""
        try:
            async with asyncio.timeout(self.time_limit), self._answer(url, headers, body) as response:
                outcome = _outcome(response, _since(began))
                await _lingered(response)
        except (TimeoutError, httpcore2.TimeoutException):
            failure = f"no answer within {self.time_limit:g} s"
        except (EgressRefused, InvalidUrl) as error:
            failure = str(error)
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            failure = _reason(error)
        # What goes wrong after the answer's head changes nothing about it.
        return outcome or Outcome(duration_ms=_since(began), error=failure)

    @contextlib.asynccontextmanager
    async def _answer(
        self, text: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[httpcore2.Response]:
        """The answer's head, for the time of the block, with a body to be read."""
        url = checked_url(text)
        tls = self._tls
        if url.scheme == "https" and tls is None:
            tls = await asyncio.to_thread(system_tls)
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [
            (b"Host", url.netloc),
            (b"User-Agent", b"steadyhand-callback"),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
            *headers,
        ]
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=tls, network_backend=self._network, max_connections=1) as pool,
            pool.stream("POST", target, headers=sent, content=body) as response,
        ):
            yield response


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)


def _outcome(response: httpcore2.Response, duration_ms: float) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome(duration_ms=duration_ms, status=status)
    told = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    redirects = 300 <= status < 400
    return Outcome(
        duration_ms=duration_ms,
        status=status,
        error="the receiver redirects, and redirects are not followed"
        if redirects
        else f"the receiver answered {status}",
        retry_after=_seconds(told.get(b"retry-after", "")),
    )


async def _lingered(response: httpcore2.Response) -> None:
    """A short body is read; a long, slow or broken one is left, and changes nothing."""
    read = 0
    with contextlib.suppress(TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
        async with asyncio.timeout(LINGER), contextlib.aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                read += len(chunk)
                if read > MAX_ANSWER:
                    return


def _reason(error: BaseException) -> str:
    """What a caller may know of a broken connection: no address of ours, no address of the receiver's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the receiver's certificate cannot be trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection could be made"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore2.ConnectError):
        return "no connection could be made"
    return "the connection broke before an answer"


def _seconds(text: str) -> float | None:
    """What a `Retry-After` header asks for: seconds, or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return max((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp(), 0.0)
