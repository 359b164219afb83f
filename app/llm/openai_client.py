"""The OpenAI SDK: credentials, URL, headers, options and errors. Its import is slow and happens on first use, off the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from app.llm.failures import connection_failure, http_failure, unusable_client
from app.llm.limits import CONNECT_TIMEOUT, KEEP_ALIVE, MAX_CONNECTIONS

if TYPE_CHECKING:
    import httpx2
    import openai


class OpenAIClient:
    """One account at one base URL, shared by all of its models; closes with `aclose`, also a client that was passed in."""

    def __init__(self, *, api_key: str | None, base_url: str, http_client: httpx2.AsyncClient | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._http_client = http_client
        self._sdk: openai.AsyncOpenAI | None = None
        self._loading = asyncio.Lock()

    async def warm(self) -> None:
        """The SDK is imported and its client built. Raises ProviderError (`auth`) where it has no credentials."""
        async with self._loading:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._load)

    def _load(self) -> openai.AsyncOpenAI:
        import httpx2
        import openai

        timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
        http_client = self._http_client or openai.DefaultAioHttpClient(timeout=timeout, limits=limits)
        try:
            return openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                timeout=timeout,
                max_retries=0,
                http_client=http_client,
            )
        except openai.OpenAIError as error:
            raise unusable_client(error) from error

    async def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """The answer to a JSON request as soon as its headers are there; the caller closes it. Raises ProviderError."""
        if self._sdk is None:
            await self.warm()
        import aiohttp
        import httpx2
        import openai

        assert self._sdk is not None
        try:
            response: object = await self._sdk.post(
                path,
                content=content,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[object],
                options={"headers": headers},
            )
        except openai.APIStatusError as error:
            raise http_failure(error.status_code, error.response.headers, error.body) from error
        except (openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            raise connection_failure(error) from error
        except openai.OpenAIError as error:
            raise unusable_client(error) from error
        return cast("httpx2.Response", response)

    async def aclose(self) -> None:
        """Its connections are closed."""
        if self._sdk is not None:
            await self._sdk.close()
        elif self._http_client is not None:
            await self._http_client.aclose()
