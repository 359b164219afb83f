"""Two processes on one database: what is asked of one is done where the run is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.edge import Edge, listening, text_of
from tests.api.problems import check
from tests.api.sockets import talking_to
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

RUN = {"agent": "helper", "input": "x", "background": True}


@pytest.fixture
def pair(edge: Any) -> Any:
    """The process that executes what it is given, and one that executes nothing."""

    def start(provider: ScriptedProvider) -> tuple[Any, Any]:
        return edge(provider, hinted=True), edge(provider, hinted=True, concurrency=0)

    return start


async def live(e: Edge, **more: Any) -> str:
    """A run that is at its model."""
    run_id: str = (await e.client.post("/v1/runs", json=RUN | more)).json()["id"]
    await until(lambda: e.provider.requests)
    return run_id


async def test_a_run_is_stopped_from_elsewhere(pair: Any) -> None:
    owner, front = pair(ScriptedProvider([asyncio.Event()]))
    async with owner as e, front as other:
        run_id = await live(e)
        stopped = await other.client.post(f"/v1/runs/{run_id}/cancel", json={"reason": "elsewhere"})
        assert stopped.status_code == 202
        assert (await other.became(run_id, "cancelled"))["error"]["code"] == "run_cancelled"
        assert (await other.client.post(f"/v1/runs/{run_id}/cancel")).status_code == 200
        await until(lambda: e.provider.closed)


async def test_a_run_is_steered_and_approved_from_elsewhere(pair: Any) -> None:
    script = (says("", ("c1", "slow", "{}")), says("", ("c2", "risky", "{}")), says("done"))
    owner, front = pair(ScriptedProvider(*script))
    async with owner as e, front as other:
        run_id = await live(e)
        await e.toolbox.started.wait()
        told = await other.client.post(f"/v1/runs/{run_id}/messages", json={"content": "from elsewhere"})
        assert told.status_code == 202
        e.toolbox.gate.set()
        await other.became(run_id, "waiting")
        assert [m.content for m in e.provider.requests[1].messages][-1] == "from elsewhere"
        (approval,) = (await other.client.get("/v1/approvals?status=pending")).json()["data"]
        await other.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "approve"})
        assert (await other.became(run_id, "succeeded"))["output"] == "done"
        assert other.toolbox.calls == []


async def test_a_process_that_executes_nothing_answers_all_the_same(pair: Any) -> None:
    script = (says("Let me see.", ("c1", "echo", "{}")), says("It is done."))
    owner, front = pair(ScriptedProvider(*script * 3))
    async with owner as e, front as other:
        assert (await other.ask())["response"] == "It is done."
        events = await other.frames("POST", "/chat/stream", {"message": "x"})
        assert "".join(data["text"] for _, name, data in events if name == "chunk") == "Let me see.It is done."
        assert (events[0][1], events[-1][1]) == ("start", "done")
        run = await other.client.post("/v1/runs", json=RUN | {"background": False})
        assert (run.status_code, run.json()["output"]) == (201, "It is done.")
        assert len(e.toolbox.calls) == 3
        assert other.toolbox.calls == []


async def test_a_run_is_followed_over_a_socket_from_elsewhere(pair: Any) -> None:
    gate = asyncio.Event()
    first, *rest = says("half done", pieces=2)
    owner, front = pair(ScriptedProvider([first, gate, *rest]))
    async with owner as e, front as other:
        run_id = await live(e)
        async with listening(other.app) as port, talking_to(port) as talk:
            await talk.say("subscribe", run_id=run_id)
            assert [(await talk.hear())["event"] for _ in range(2)] == ["run.created", "run.started"]
            gate.set()
            frames = await talk.hear_all()
            assert text_of([(frame["id"], frame["event"], frame["data"]) for frame in frames]) == "half done"
            await talk.say("run", message="x", agent="nobody")
            await talk.refused("not_found")


async def test_a_session_is_deleted_from_elsewhere(pair: Any) -> None:
    owner, front = pair(ScriptedProvider([asyncio.Event()]))
    async with owner as e, front as other:
        run_id = await live(e, session_id="s")
        waiting = asyncio.create_task(e.client.post("/chat", json={"message": "x", "session_id": "s"}))
        while len((await e.client.get("/v1/runs")).json()["data"]) < 2:
            pass
        assert (await other.client.delete("/v1/sessions/s")).status_code == 204
        check(await waiting, 409, "run_cancelled")
        check(await e.client.get(f"/v1/runs/{run_id}"), 404, "not_found")
        await until(lambda: e.provider.closed)
