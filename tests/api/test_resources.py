"""Runs and sessions as resources: what they hold, and their pages."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

RUN = {
    "id", "session_id", "agent", "agent_version", "user_id", "tags", "status", "stop_reason", "output", "error",
    "degraded", "cached", "iterations", "usage", "cost_usd", "resumed_from", "outcome_unknown", "experiments", "shadow_of", "created_at", "started_at",
    "finished_at",
}  # fmt: skip


async def pages(client: Any, path: str, **wanted: Any) -> list[dict[str, Any]]:
    """Every row of a paged list, asked for two at a time."""
    found, cursor = [], None
    while True:
        asked = wanted | {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(path, params=asked)).json()
        assert set(page) == {"data", "next_cursor"}
        assert len(page["data"]) <= 2
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_a_run_and_its_life(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("ok")])) as e:
        call = asyncio.create_task(e.ask("x", session_id="s", tags={"team": "blue"}))
        await until(lambda: e.provider.requests)
        live = (await e.client.get("/v1/runs")).json()["data"][0]
        assert set(live) == RUN
        assert (live["status"], live["output"], live["stop_reason"], live["finished_at"]) == (
            "running",
            None,
            None,
            None,
        )
        gate.set()
        await call
        run = (await e.client.get(f"/v1/runs/{live['id']}")).json()
        assert set(run) == RUN
        assert (run["status"], run["output"], run["stop_reason"], run["error"]) == (
            "succeeded",
            "ok",
            "completed",
            None,
        )
        assert (run["session_id"], run["agent"], run["tags"], run["iterations"]) == ("s", "helper", {"team": "blue"}, 1)
        assert run["usage"]["input_tokens"] == 10
        times = [datetime.fromisoformat(run[name]) for name in ("created_at", "started_at", "finished_at")]
        assert times[0] - timedelta(milliseconds=1) < times[1] < times[2]
        assert all(at.utcoffset() == timedelta(0) for at in times)


async def test_runs_in_pages_and_by_what_they_are(edge: Any) -> None:
    agents = (react(name="one"), react(name="two"))
    async with edge(ScriptedProvider(*[says(f"{n}") for n in range(5)]), *agents) as e:
        for number in range(5):
            await e.ask(
                f"q{number}", agent=("one", "two")[number % 2], session_id=f"s{number // 3}", user_id=f"u{number // 3}"
            )
        everything = (await e.client.get("/v1/runs")).json()
        assert [run["output"] for run in everything["data"]] == ["4", "3", "2", "1", "0"]
        assert everything["next_cursor"] is None
        assert await pages(e.client, "/v1/runs") == everything["data"]
        for wanted, outputs in (
            ({"agent": "two"}, "31"), ({"session_id": "s1"}, "43"), ({"user_id": "u0"}, "210"), ({"status": "failed"}, ""),
            ({"status": "succeeded", "agent": "one", "user_id": "u1"}, "4"), ({"agent": "nobody"}, ""),
        ):  # fmt: skip
            assert "".join(run["output"] for run in await pages(e.client, "/v1/runs", **wanted)) == outputs, wanted
        at = everything["data"][2]["created_at"]
        assert "".join(run["output"] for run in await pages(e.client, "/v1/runs", **{"from": at})) == "432"
        assert "".join(run["output"] for run in await pages(e.client, "/v1/runs", to=at)) == "10"
        assert await pages(e.client, "/v1/runs", to=at.replace("Z", ""), **{"from": at}) == []


async def test_sessions_and_their_messages_in_pages(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says(f"a{n}") for n in range(6)])) as e:
        for number in range(5):
            await e.ask(f"q{number}", session_id=f"s{number % 3}")
        listed = (await e.client.get("/v1/sessions")).json()
        assert [session["id"] for session in listed["data"]] == ["s1", "s0", "s2"]
        assert await pages(e.client, "/v1/sessions") == listed["data"]
        assert set(listed["data"][0]) == {"id", "user_id", "created_at", "updated_at"}
        assert (await e.client.get("/v1/sessions/s1")).json() == listed["data"][0]
        messages = await pages(e.client, "/v1/sessions/s1/messages")
        assert [message["content"] for message in messages] == ["q1", "a1", "q4", "a4"]
        assert messages == (await e.client.get("/history/s1")).json()["messages"]
