from __future__ import annotations

import httpx2
import pytest

from app.llm.providers import is_openai_host, open_provider
from tests.llm.messages import REQUEST
from tests.llm.test_streams import stream
from tests.llm.wire import Script, Served, ask, provider


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://api.openai.com/v1", True),
        ("https://API.openai.com", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.evil.test/v1", False),
        ("https://notapi.openai.com.test/v1", False),
        ("http://127.0.0.1:8080/v1", False),
        ("", False),
    ],
)
def test_is_openai_host(url: str, own: bool) -> None:
    assert is_openai_host(url) is own


@pytest.mark.parametrize(
    ("base_url", "path", "recorded"),
    [
        (None, "/v1/responses", "openai-responses"),
        ("https://us.api.openai.com/v1", "/v1/responses", "openai-responses"),
        ("http://gateway.test/openai/v1", "/openai/v1/chat/completions", "openai-chat"),
    ],
)
async def test_the_api_follows_the_host(base_url: str | None, path: str, recorded: str) -> None:
    script = Script(Served(stream("openai-chat" if recorded == "openai-chat" else "openai-responses")))
    opened = open_provider(
        name="main",
        kind="openai",
        api_key="k",
        base_url=base_url,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(script)),
    )
    await ask(opened, REQUEST)
    await opened.aclose()
    assert script.requests[0].url.path == path
    assert str(script.requests[0].url).startswith(base_url or "https://api.openai.com")


async def test_models_of_a_provider_share_its_client_and_name_themselves() -> None:
    script = Script(Served(stream("anthropic-messages")), Served(stream("anthropic-messages")))
    async with provider("anthropic-messages", script) as opened:
        first, second = opened.target("one"), opened.target("two")
        assert [(t.provider, t.model) for t in (first, second)] == [("anthropic", "one"), ("anthropic", "two")]
        await ask(opened, model="one")
        await ask(opened, model="two")
    assert [b'"model":"one"' in await r.aread() for r in script.requests] == [True, False]
    assert script.requests[0].headers["anthropic-version"] != "2023-06-01"
