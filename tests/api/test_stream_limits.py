"""What a stream costs and when it ends: how many there may be, clients that leave, silence, a process that closes."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.edge import frames
from tests.api.listening import listener, streaming
from tests.api.problems import check
from tests.api.test_streams import JSON_ONLY, TEXT, end_of, script
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def test_no_more_streams_than_allowed(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(*[[gate, *says("ok")]] * 9)
    async with edge(provider, max_streams=3) as e:
        calls = [asyncio.create_task(e.client.post("/chat/stream", json={"message": "x"})) for _ in range(8)]
        await until(lambda: sum(call.done() for call in calls) == 5)
        refused = [call.result() for call in calls if call.done()]
        for response in refused:
            check(response, 429, "queue_full")
            assert response.headers["retry-after"] == "1"
        while len(runs := (await e.client.get("/v1/runs")).json()["data"]) < 3:
            pass
        assert len(runs) == 3
        run_id = runs[0]["id"]
        check(await e.client.get(f"/v1/runs/{run_id}/events"), 429, "queue_full")
        assert (await e.client.get(f"/v1/runs/{run_id}/events", headers=JSON_ONLY)).status_code == 200
        gate.set()
        assert [call.result().status_code for call in calls if await call].count(200) == 3
        assert len(await e.frames("GET", f"/v1/runs/{run_id}/events")) > 3
        for bad in ("nothing", run_id):
            for _ in range(4):
                await e.client.get(f"/v1/runs/{bad}/events?after=99")
        assert len(await e.frames("GET", f"/v1/runs/{run_id}/events")) > 3


async def test_a_client_that_is_gone_at_once_leaves_its_place(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 20), max_streams=1) as e:
        for _ in range(10):
            async with listener(e.app, "POST", "/chat/stream", {"message": "x"}) as client:
                client.gone.set()
            assert client.status == 200
        for _ in range(10):
            async with listener(e.app, "POST", "/chat/stream", {"message": "x"}, reading=False) as stuck:
                await stuck.offering.wait()
            assert stuck.content == b""
        assert (await e.frames("GET", f"/v1/runs/{(await e.client.get('/v1/runs')).json()['data'][0]['id']}/events"))[
            -1
        ]


async def test_a_silent_stream_says_that_it_lives(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("ok")]), keep_alive=0.02) as e:
        async with listener(e.app, "POST", "/chat/stream", {"message": "x"}) as client:
            await client.seen(b": keep-alive\n\n: keep-alive\n\n")
            gate.set()
            await until(lambda: client.ended)
        assert frames(bytes(client.content))[-1][1] == "done"
    async with edge(ScriptedProvider(says("ok"))) as e:
        assert b"keep-alive" not in (await e.client.post("/chat/stream", json={"message": "x"})).content


async def test_a_closing_process_sends_its_readers_elsewhere(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e:
        async with listener(e.app, "POST", "/chat/stream", {"message": "x"}) as client:
            await client.seen(b"event: start")
            e.runs.feeds.close()
            await until(lambda: client.ended)
        assert b"Last-Event-ID" in client.content
        assert [name for _, name, _ in frames(bytes(client.content))] == ["start"]


async def test_a_client_that_hangs_up_does_not_stop_the_run(served: Any) -> None:
    gates: list[asyncio.Event] = []
    async with served(ScriptedProvider(*script(gates)), max_streams=1) as (_, client):
        async with streaming(client, "POST", "/chat/stream", {"message": "x", "session_id": "s"}) as stream:
            async for frame in stream:
                assert frame is not None
                if frame[1] == "chunk":
                    break
        run_id = (await client.get("/v1/runs")).json()["data"][0]["id"]
        for gate in gates:
            gate.set()
        while (run := (await client.get(f"/v1/runs/{run_id}")).json())["finished_at"] is None:
            pass
        assert (run["status"], run["output"]) == ("succeeded", TEXT)
        while (again := await client.get(f"/v1/runs/{run_id}/events")).status_code == 429:
            pass
        assert end_of(frames(again.content))["output"] == TEXT
        assert [m["content"] for m in (await client.get("/history/s")).json()["messages"]][-1] == TEXT
