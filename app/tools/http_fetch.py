"""GET of a public web page, for a model that chooses the URL: so the URL is hostile until proven otherwise.

Every connection resolves its host once, checks every address of the answer and connects to one of those numbers, with the
original name in `Host` and TLS. There is no second look-up between check and connect, and a redirect is a new connection.
Proxies, cookies, credentials and `.netrc` are never used. Compression other than gzip is not offered and not accepted.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import html
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore2
import httpx2
import msgspec

from app.domain.text import clean
from app.tools.declare import tool
from app.tools.egress import Address, is_public, parsed

PORTS = frozenset({80, 443, 8080, 8443})
"""Where web servers answer; other ports belong to services that did not expect a model."""
MAX_URL = 2_000
MAX_REDIRECTS = 5
"""From https to http never."""
MAX_BODY = 1024 * 1024
"""Bytes of a body, compressed or not, that are read; the rest is left unread and the page is marked `truncated`."""
MAX_TEXT = 60_000
"""Characters of text that the model gets: less than a tool's result may have in any script."""
TIME_LIMIT = 20.0
"""Seconds for everything, redirects included; one connect or read has `PHASE_LIMIT`."""
PHASE_LIMIT = 8.0

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_HEADERS = [
    (b"User-Agent", b"steadyhand-http-fetch"),
    (b"Accept", b"text/html, application/json, application/xml;q=0.9, text/*;q=0.9"),
    (b"Accept-Encoding", b"gzip"),
    (b"Connection", b"close"),
]
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
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
async def http_fetch(url: str) -> Page:
    """Fetch a public web page or JSON document by its http or https URL and return its text.

    Args:
        url: Absolute URL on the public internet, without credentials.
    """
    return await Fetcher(resolver=system_resolver, allow=is_public, network=httpcore2.AnyIOBackend()).fetch(url)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The host's addresses as the operating system knows them. Raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]


class Fetcher:
    """Fetches pages under a policy: `allow` judges every address of `resolver`'s answer before `network` connects to it."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        allow: Callable[[Address], bool],
        network: httpcore2.AsyncNetworkBackend,
        tls: ssl.SSLContext | None = None,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._checked = _CheckedNetwork(resolver=resolver, allow=allow, network=network)
        self._tls = tls
        self._time_limit = time_limit

    async def fetch(self, url: str) -> Page:
        """The page at `url`. Raises FetchError."""
        try:
            async with asyncio.timeout(self._time_limit):
                return await self._followed(url)
        except TimeoutError as error:
            raise FetchError(f"no whole answer within {self._time_limit:g} s") from error
        except httpcore2.TimeoutException as error:
            raise FetchError(f"the server did not answer within {PHASE_LIMIT:g} s") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise FetchError(f"the connection failed: {clean(str(error))[:200] or type(error).__name__}") from error

    async def _followed(self, url: str) -> Page:
        target = _checked_url(url)
        for _ in range(MAX_REDIRECTS + 1):
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
            tls = await asyncio.to_thread(_system_tls)
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


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that passed the check, and only to those."""

    def __init__(
        self, *, resolver: Resolver, allow: Callable[[Address], bool], network: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._resolver = resolver
        self._allow = allow
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to `host`, within `timeout` seconds over all its addresses. Raises FetchError where one of them is not allowed."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("connecting took too long") from error

    async def _connect(
        self,
        host: str,
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = [parsed(text) for text in await self._resolver(host, port)]
        except (OSError, UnicodeError) as error:
            raise FetchError(f"the host {host} is not known") from error
        if not all(self._allow(address) for address in addresses):
            # The address stays unsaid: it would map the operator's network for the model.
            raise FetchError(f"{host} is not on the public internet: only public addresses may be fetched")
        failure = httpcore2.ConnectError(f"the host {host} has no address")
        for address in dict.fromkeys(addresses):
            try:
                return await self._network.connect_tcp(
                    str(address), port, local_address=local_address, socket_options=socket_options
                )
            except httpcore2.ConnectError as error:
                failure = error
        raise failure


def _checked_url(text: str) -> httpx2.URL:
    if len(text) > MAX_URL:
        raise FetchError(f"the URL is longer than {MAX_URL} characters")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise FetchError("the URL is not valid") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchError("the URL must be absolute and begin with http:// or https://")
    if not _HOST.fullmatch(url.raw_host):
        raise FetchError("the URL's host is not valid")
    if url.userinfo:
        raise FetchError("the URL must not hold credentials")
    if (url.port or (443 if url.scheme == "https" else 80)) not in PORTS:
        raise FetchError(f"port {url.port} is not allowed: only {', '.join(map(str, sorted(PORTS)))}")
    return url.copy_with(fragment=None)


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


@functools.cache
def _system_tls() -> ssl.SSLContext:
    """The operator's certificate authorities; reading them takes long enough to do it once, and not on the loop."""
    return httpcore2.default_ssl_context()
