"""A second target beside one that is slow to begin, over HTTP: one call in twenty, and the loser's socket is closed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.provider import Call, stand_in
from tests.e2e.service import serve, workspace
from tests.e2e.wires import APIS, ApiName, Reply, hangs, says

TOML = """
[providers.first]
kind = "{kind}"
{api}
base_url = "{url}"
api_key_env = ""
[models.default]
chain = ["first/slow", "first/quick"]
hedge_after = 0.05
"""
AGENT = "description: Answers\nkind: chat\ninstructions: Be brief.\nmodel: default\n"


@pytest.mark.long
@pytest.mark.parametrize("api", APIS)
async def test_the_quick_one_answers_and_the_slow_one_is_let_go(tmp_path: Path, database: str, api: ApiName) -> None:
    def reply(call: Call) -> Reply:
        if call.body["model"] == "quick":
            return says("from the quick one")
        return hangs(headers=False) if call.question == "slow" else says("from the slow one")

    async with stand_in(replies=reply) as provider:
        own = api == "anthropic"
        toml = TOML.format(
            kind="anthropic" if own else "openai",
            api="" if own else f'api = "{api}"',
            url=provider.url if own else f"{provider.url}/v1",
        )
        workspace(tmp_path, {"steadyhand.toml": toml, "agents/assistant.yaml": AGENT})
        async with serve(tmp_path, environ={"DATABASE_URL": database}) as service:
            for _ in range(19):  # the right to one is earned by twenty calls
                assert (await service.chat("fast"))["response"] == "from the slow one"
            answer = await service.chat("slow")
            assert answer["response"] == "from the quick one"
            slow, quick = provider.asked("slow")
            assert (slow.body["model"], quick.body["model"]) == ("slow", "quick")
            async with asyncio.timeout(10):
                await slow.left.wait()
            used: list[dict[str, Any]] = [
                event["data"] for event in await service.events(answer["run_id"]) if event["event"] == "usage.recorded"
            ]
            assert [(one["attempt"], one["outcome"]) for one in used] == [(1, "cancelled"), (2, "ok")]
