"""The Anthropic SDK: credentials, URL, headers, options and errors. Imported when `load` is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.llm.client import CONNECT_TIMEOUT, KEEP_ALIVE, MAX_CONNECTIONS, Sdk
from app.llm.failures import unusable_client

if TYPE_CHECKING:
    import httpx2


def load(api_key: str | None, base_url: str | None, http_client: httpx2.AsyncClient | None) -> Sdk:
    """The SDK for one account. `api_key` None: the server takes none, and none is sent."""
    import aiohttp
    import anthropic
    import httpx2

    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
    http = http_client or anthropic.DefaultAioHttpClient(timeout=timeout, limits=limits)
    try:
        client = anthropic.AsyncAnthropic(
            api_key=api_key or "none",
            base_url=base_url,
            timeout=timeout,
            max_retries=0,
            http_client=http,
            open_telemetry=False,  # the spans of a call are ours; the SDK's would say it twice
        )
    except anthropic.AnthropicError as error:
        raise unusable_client(error) from error
    return Sdk(
        client=client,
        http=http,
        request=httpx2.Request,
        response=httpx2.Response,
        stream=anthropic.AsyncStream[object],
        status_error=anthropic.APIStatusError,
        broken=(anthropic.APIConnectionError, httpx2.HTTPError, aiohttp.ClientError, OSError),
        unusable=(anthropic.AnthropicError, TypeError),
        headers={} if api_key else {"Authorization": anthropic.Omit(), "X-Api-Key": anthropic.Omit()},
    )
