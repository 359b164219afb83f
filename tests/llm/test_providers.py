from __future__ import annotations

import httpx2
import pytest

from app.llm.offline import OfflineTarget
from app.llm.providers import open_provider
from tests.llm.messages import REQUEST
from tests.llm.test_streams import stream
from tests.llm.wire import Script, Served, ask, provider


@pytest.mark.parametrize(
    ("base_url", "own_host", "path"),
    [
        (None, True, "/v1/responses"),
        ("https://us.api.openai.com/v1", True, "/v1/responses"),
        ("http://gateway.test/openai/v1", False, "/openai/v1/chat/completions"),
    ],
)
async def test_the_api_follows_the_host(base_url: str | None, own_host: bool, path: str) -> None:
    script = Script(Served(stream("openai-responses" if own_host else "openai-chat")))
    opened = open_provider(
        name="main",
        kind="openai",
        api_key="k",
        base_url=base_url,
        own_host=own_host,
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
        assert (first.system, OfflineTarget(provider="mine").system) == ("anthropic", "offline")
        await ask(opened, model="one")
        await ask(opened, model="two")
    assert [b'"model":"one"' in await r.aread() for r in script.requests] == [True, False]
    assert script.requests[0].headers["anthropic-version"] != "2023-06-01"
