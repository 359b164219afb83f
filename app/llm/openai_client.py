"""The OpenAI SDK: credentials, URL, headers, options and errors. Imported when `load` is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.llm.client import CONNECT_TIMEOUT, KEEP_ALIVE, MAX_CONNECTIONS, Sdk
from app.llm.failures import unusable_client

if TYPE_CHECKING:
    import httpx2


def load(api_key: str | None, base_url: str | None, http_client: httpx2.AsyncClient | None) -> Sdk:
    """The SDK for one account. `api_key` None: the server takes none, and none is sent."""
    import aiohttp
    import httpx2
    import openai

    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
    http = http_client or openai.DefaultAioHttpClient(timeout=timeout, limits=limits)
    try:
        client = openai.AsyncOpenAI(
            api_key=api_key or "none",
            base_url=base_url,
            timeout=timeout,
            max_retries=0,
            http_client=http,
        )
    except openai.OpenAIError as error:
        raise unusable_client(error) from error
    return Sdk(
        client=client,
        http=http,
        request=httpx2.Request,
        response=httpx2.Response,
        stream=openai.AsyncStream[object],
        status_error=openai.APIStatusError,
        broken=(openai.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError),
        unusable=(openai.OpenAIError,),
        headers={} if api_key else {"Authorization": openai.Omit()},
    )
