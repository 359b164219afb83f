"""A vendor's SDK as an HTTP client: loaded on first use, asked through its low-level `post`, its errors made ours.

What the SDK prepares (URL, credentials, its own headers) is the same for every call of a path, and preparing it is a third
of a call's CPU. So the first call of a path goes through the SDK, and later ones through its connections under the same
URL and headers; see ops/decisions/0003.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from app.domain.errors import ProviderError
from app.llm.failures import connection_failure, http_failure, unusable_client

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection is open, TLS included. The only time that is not the router's."""

MAX_CONNECTIONS = 10_000
"""Connections of one client: one for each stream under way. The runs' own limit is reached long before."""

KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: long enough for the tools of a turn, shorter than the vendors' own limit."""

DRAIN_TIME = 0.25
"""Seconds that the end of a whole answer's body is waited for, so that its connection can serve another call."""

SILENCE = 60.0
"""Seconds without a byte after which a download is taken for dead."""

PER_REQUEST = frozenset({b"content-length", b"cookie", b"idempotency-key", b"x-stainless-retry-count"})
"""Headers that belong to one request and are not kept for the next."""

SHORTEST_KEY = 8
"""Characters of a key that is looked for in errors: servers that take any have one like `x`, which is in every word."""

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error answer that are looked at."""


class Prepared(msgspec.Struct, frozen=True):
    """What the SDK made of a request, apart from its content."""

    url: httpx2.URL
    headers: list[tuple[bytes, bytes]]
    extensions: dict[str, Any]


class Sdk(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of an SDK: its client, the connections under it (`http`), and the classes of its errors.

    A `status_error` has `status_code`, `response` and `body`. `unusable`: it could not even send.
    """

    client: Any
    http: httpx2.AsyncClient
    request: type[httpx2.Request]
    response: type[httpx2.Response]
    stream: type[Any]
    status_error: type[Any]
    broken: tuple[type[Exception], ...]
    unusable: tuple[type[Exception], ...]
    headers: Mapping[str, Any]


class SdkClient:
    """One account at one base URL, shared by all of its models. `load` imports the SDK, which is slow, and builds its client."""

    def __init__(self, *, load: Callable[[], Sdk], secret: str | None = None) -> None:
        """`secret` is the account's key, which no error of it repeats."""
        self._load = load
        self._secret = secret
        self._sdk: Sdk | None = None
        self._loading = asyncio.Lock()
        self._prepared: dict[tuple[str, ...], Prepared] = {}
        self._draining: set[asyncio.Task[None]] = set()

    async def warm(self) -> None:
        """The SDK is loaded, in a thread. Raises ProviderError (`auth`) where it has no credentials."""
        await self._loaded()

    async def _loaded(self) -> Sdk:
        async with self._loading:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._load)
            return self._sdk

    async def ask(self, use: Callable[[Sdk], Awaitable[T]]) -> T:
        """What `use` gets from the SDK, by whatever call. Raises ProviderError."""
        sdk = self._sdk or await self._loaded()
        try:
            return await use(sdk)
        except sdk.status_error as error:
            raise self.hide(http_failure(error.status_code, error.response.headers, error.body)) from error
        except sdk.broken as error:
            raise connection_failure(error) from error
        except sdk.unusable as error:
            raise unusable_client(error) from error

    def hide(self, error: ProviderError) -> ProviderError:
        """The error, without the account's key."""
        if self._secret is not None and len(self._secret) >= SHORTEST_KEY:
            error.hide(self._secret)
        return error

    async def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """The answer to a JSON request as soon as its headers are there; the caller closes it. Raises ProviderError."""
        key = (path, *headers.values())
        prepared = self._prepared.get(key)

        async def send(sdk: Sdk) -> httpx2.Response:
            if prepared is not None:
                return await self._send(sdk, key, prepared, content)
            return cast(
                "httpx2.Response",
                await sdk.client.post(
                    path,
                    content=content,
                    cast_to=sdk.response,
                    stream=True,
                    stream_cls=sdk.stream,
                    options={"headers": {**headers, **sdk.headers}},
                ),
            )

        response = await self.ask(send)
        if not response.history:
            self._prepared[key] = _prepared(response.request)
        return response

    async def _send(self, sdk: Sdk, key: tuple[str, ...], like: Prepared, content: bytes) -> httpx2.Response:
        """As the SDK would, for a request that it has prepared once."""
        request = sdk.request("POST", like.url, headers=like.headers, content=content, extensions=like.extensions)
        response = await sdk.http.send(request, stream=True)
        if response.status_code < 400:
            return response
        try:
            if response.status_code == 401:
                self._prepared.pop(key, None)
            raise self.hide(http_failure(response.status_code, response.headers, await _error_body(response)))
        finally:
            await response.aclose()

    async def download(self, path: str) -> AsyncGenerator[bytes, None]:
        """The body of what is there, as it comes; it must be closed. Both raise ProviderError, also where nothing came for SILENCE seconds."""
        response = cast(
            "httpx2.Response",
            await self.ask(
                lambda sdk: sdk.client.get(
                    path, cast_to=sdk.response, stream=True, stream_cls=sdk.stream, options={"headers": {**sdk.headers}}
                )
            ),
        )
        return _downloaded(response)

    def release(self, response: httpx2.Response, rest: AsyncGenerator[bytes, None]) -> None:
        """Take over a response whose answer is whole: `rest`, its body, is read to the end, and both are closed.

        That is a task of the client's, so neither the time it takes nor its end, nor a stop of the call, meets the answer.
        It takes DRAIN_TIME at most, and `aclose` awaits it.
        """
        task = asyncio.create_task(_drain(response, rest))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def aclose(self) -> None:
        """Its connections are closed, those of a client that was passed in too; what was never used has none."""
        if self._draining:
            await asyncio.wait(self._draining)
        if self._sdk is not None:
            await self._sdk.client.close()


def _prepared(request: httpx2.Request) -> Prepared:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in PER_REQUEST]
    return Prepared(request.url, headers, dict(request.extensions))


async def _downloaded(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    source = response.aiter_bytes()
    try:
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    piece = await anext(source)
            except StopAsyncIteration:
                return
            except Exception as error:
                raise ProviderError(
                    "stream_broken", f"the connection broke: {type(error).__name__}", status=200
                ) from error
            yield piece
    finally:
        await response.aclose()


async def _drain(response: httpx2.Response, rest: AsyncGenerator[bytes, None]) -> None:
    """The end of the body was read, or was not worth waiting for; nothing after a whole answer can make it worse."""
    try:
        async with asyncio.timeout(DRAIN_TIME), aclosing(rest):
            async for _ in rest:
                pass
    except (TimeoutError, ProviderError):
        return
    finally:
        await response.aclose()


async def _error_body(response: httpx2.Response) -> object:
    """The decoded body of an error answer, or its text, or what came of it."""
    data = b""
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > MAX_ERROR_BODY:
            break
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data[:500].decode(errors="replace")
