"""A vendor's SDK as an HTTP client: loaded on first use, asked through its low-level `post`, its errors made ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from app.llm.failures import connection_failure, http_failure, unusable_client

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection is open, TLS included. The only time that is not the router's."""

MAX_CONNECTIONS = 10_000
"""Connections of one client: one for each stream under way. The runs' own limit is reached long before."""

KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: long enough for the tools of a turn, shorter than the vendors' own limit."""


class Sdk(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of an SDK: its client, and the classes of its errors.

    A `status_error` has `status_code`, `response` and `body`. `unusable`: it could not even send.
    """

    client: Any
    response: type[httpx2.Response]
    stream: type[Any]
    status_error: type[Any]
    broken: tuple[type[Exception], ...]
    unusable: tuple[type[Exception], ...]
    headers: Mapping[str, Any]


class SdkClient:
    """One account at one base URL, shared by all of its models. `load` imports the SDK, which is slow, and builds its client."""

    def __init__(self, *, load: Callable[[], Sdk]) -> None:
        self._load = load
        self._sdk: Sdk | None = None
        self._loading = asyncio.Lock()

    async def warm(self) -> None:
        """The SDK is loaded, in a thread. Raises ProviderError (`auth`) where it has no credentials."""
        await self._loaded()

    async def _loaded(self) -> Sdk:
        async with self._loading:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._load)
            return self._sdk

    async def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """The answer to a JSON request as soon as its headers are there; the caller closes it. Raises ProviderError."""
        sdk = self._sdk or await self._loaded()
        try:
            response = await sdk.client.post(
                path,
                content=content,
                cast_to=sdk.response,
                stream=True,
                stream_cls=sdk.stream,
                options={"headers": {**headers, **sdk.headers}},
            )
        except sdk.status_error as error:
            raise http_failure(error.status_code, error.response.headers, error.body) from error
        except sdk.broken as error:
            raise connection_failure(error) from error
        except sdk.unusable as error:
            raise unusable_client(error) from error
        return cast("httpx2.Response", response)

    async def aclose(self) -> None:
        """Its connections are closed, those of a client that was passed in too; what was never used has none."""
        if self._sdk is not None:
            await self._sdk.client.close()
