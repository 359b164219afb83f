"""GET of a public web page, for a model that chooses the URL: so the URL is hostile until proven otherwise.

Every connection goes through `CheckedNetwork`, with the original name in `Host` and TLS; a redirect is a new connection.
Proxies, cookies, credentials and `.netrc` are never used. Compression other than gzip is not offered and not accepted.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import html
import re
import ssl
import zlib
from collections.abc import Callable

import httpcore2
import httpx2
import msgspec

from app.domain.text import clean
from app.domain.tools import ToolContext
from app.egress.addresses import Address, is_public
from app.egress.network import CheckedNetwork, EgressRefused, Resolver, system_resolver, system_tls
from app.egress.urls import InvalidUrl, checked_url, port_of
from app.tools.declare import tool

PORTS = frozenset({80, 443, 8080, 8443})
"""Where web servers answer; other ports belong to services that did not expect a model."""
MAX_REDIRECTS = 5
"""From https to http never."""
MAX_BODY = 1024 * 1024
"""Bytes of a body, compressed or not, that are read; the rest is left unread and the page is marked `truncated`."""
MAX_TEXT = 60_000
"""Characters of text that the model gets: less than a tool's result may have in any script."""
TIME_LIMIT = 20.0
"""Seconds for everything, redirects included; one connect or read has `PHASE_LIMIT`."""
PHASE_LIMIT = 8.0

_HEADERS = [
    (b"User-Agent", b"steadyhand-http-fetch"),
    (b"Accept", b"text/html, application/json, application/xml;q=0.9, text/*;q=0.9"),
    (b"Accept-Encoding", b"gzip"),
    (b"Connection", b"close"),
]
_READABLE = re.compile(r"text/[\w.+-]+|application/(?:[\w.-]+\+)?(?:json|xml)")
_CHARSETS = re.compile(
    r"utf-8|utf-8-sig|utf-16(?:-[lb]e)?|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|gb\w+|big5\w*|euc_\w+|shift_\w+|mac-\w+"
)
_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|noscript|template|svg)\b.*?(?:</\1[^>]*>?|\Z)|</?([a-z][a-z0-9]*)[^>]*>?|<[!?/][^>]*>?",
    re.IGNORECASE | re.DOTALL,
)  # each alternative consumes what it scanned, so that no input costs more than linear time
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "cite",
        "code",
        "data",
        "dfn",
        "em",
        "font",
        "i",
        "kbd",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "time",
        "u",
        "var",
        "wbr",
    ]
)


class FetchError(ValueError):
    """The page cannot be had; the message says why and, where the model can, what to change."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered, whatever its status. HTML is reduced to its text. `url` is where the redirects ended."""

    url: str
    status: int
    content_type: str
    text: str
    truncated: bool


@tool(risk="medium", effect="read", timeout=25)
async def http_fetch(url: str, ctx: ToolContext) -> Page:
    """Fetch a public web page or JSON document by its http or https URL and return its text.

    Args:
        url: Absolute URL on the public internet, without credentials.
    """
    return await Fetcher(
        resolver=system_resolver,
        allow=is_public,
        network=httpcore2.AnyIOBackend(),
        permits=lambda found: ctx.permits("url", found),
    ).fetch(url)


class Fetcher:
    """Fetches pages under a policy: `allow` judges every address of `resolver`'s answer before `network` connects to it.

    `permits` says why a URL may not be fetched, the given one or one that a server redirects to; None where it may.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        allow: Callable[[Address], bool],
        network: httpcore2.AsyncNetworkBackend,
        tls: ssl.SSLContext | None = None,
        time_limit: float = TIME_LIMIT,
        permits: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._checked = CheckedNetwork(resolver=resolver, allow=allow, network=network)
        self._tls = tls
        self._time_limit = time_limit
        self._permits = permits

    async def fetch(self, url: str) -> Page:
        """The page at `url`. Raises FetchError."""
        try:
            async with asyncio.timeout(self._time_limit):
                return await self._followed(url)
        except TimeoutError as error:
            raise FetchError(f"no whole answer within {self._time_limit:g} s") from error
        except httpcore2.TimeoutException as error:
            raise FetchError(f"the server did not answer within {PHASE_LIMIT:g} s") from error
        except EgressRefused as error:
            raise FetchError(str(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise FetchError(f"the connection failed: {clean(str(error))[:200] or type(error).__name__}") from error

    async def _followed(self, url: str) -> Page:
        target = _checked_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            if (why := self._permits(str(target))) is not None:
                raise FetchError(f"this agent does not allow that: {why}")
            answer = await self._get(target)
            if isinstance(answer, Page):
                return answer
            try:
                after = target.join(answer)
            except (httpx2.InvalidURL, ValueError) as error:
                raise FetchError("the server redirects to an invalid URL") from error
            if target.scheme == "https" and after.scheme == "http":
                raise FetchError("the server redirects from https to http")
            target = _checked_url(str(after))
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: httpx2.URL) -> Page | str:
        """The page, or the `Location` of a redirect."""
        tls = self._tls
        if url.scheme == "https" and tls is None:
            tls = await asyncio.to_thread(system_tls)
        host = url.netloc
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        limits = dict.fromkeys(("connect", "read", "write", "pool"), PHASE_LIMIT)
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=tls, network_backend=self._checked, max_connections=1) as pool,
            pool.stream(
                "GET", target, headers=[(b"Host", host), *_HEADERS], extensions={"timeout": limits}
            ) as response,
        ):
            headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and (location := headers.get(b"location")):
                return location
            declared = headers.get(b"content-type", "")
            kind = declared.partition(";")[0].strip().lower()
            if not _READABLE.fullmatch(kind):
                raise FetchError(
                    f"the server sent {kind[:60] or 'no content type'}: only text, HTML, JSON and XML can be read"
                )
            body, truncated = await _body(response, headers.get(b"content-encoding", "").strip().lower())
        text = await asyncio.to_thread(_readable, body, kind, declared)
        return Page(
            url=str(url),
            status=response.status,
            content_type=kind,
            text=text[:MAX_TEXT],
            truncated=truncated or len(text) > MAX_TEXT,
        )


def _checked_url(text: str) -> httpx2.URL:
    try:
        url = checked_url(text)
    except InvalidUrl as error:
        raise FetchError(str(error)) from error
    if port_of(url) not in PORTS:
        raise FetchError(f"port {url.port} is not allowed: only {', '.join(map(str, sorted(PORTS)))}")
    return url


async def _body(response: httpcore2.Response, encoding: str) -> tuple[bytes, bool]:
    """At most `MAX_BODY` bytes, unpacked step by step so that a small bomb stays small, and whether there was more."""
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise FetchError(f"the server compressed its answer as {encoding[:20]}, which was not asked for")
    unpack = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body, raw = bytearray(), 0
    async with contextlib.aclosing(response.aiter_stream()) as chunks:
        async for chunk in chunks:
            raw += len(chunk)
            try:
                body += unpack.decompress(chunk, MAX_BODY + 1 - len(body)) if unpack else chunk
            except zlib.error as error:
                raise FetchError("the server's gzip data is broken") from error
            if max(len(body), raw) > MAX_BODY:
                return bytes(body[:MAX_BODY]), True
    if unpack and raw and not unpack.eof:
        raise FetchError("the server's gzip data is cut off")
    return bytes(body), False


def _readable(body: bytes, kind: str, declared: str) -> str:
    text = clean(body.decode(_charset(declared), "replace"))
    if kind not in ("text/html", "application/xhtml+xml"):
        return text
    text = html.unescape(_MARKUP.sub(lambda match: "" if (match[2] or "").lower() in _INLINE else "\n", text))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return clean("\n".join(line for line in lines if line))


def _charset(declared: str) -> str:
    match = re.search(r"charset=[\"']?([\w.:-]+)", declared, re.IGNORECASE)
    try:
        name = codecs.lookup(match[1]).name if match else "utf-8"
    except LookupError:
        return "utf-8"
    return name if _CHARSETS.fullmatch(name) else "utf-8"
