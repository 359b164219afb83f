"""Streams: every reader, from wherever it comes and however often, gets exactly the run."""

from __future__ import annotations

import asyncio
from typing import Any

from app.domain.models import Completed, ReasoningDelta, TextDelta
from tests.api.edge import Frame, frames, text_of
from tests.api.listening import listener, streaming
from tests.api.problems import check
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

TEXT = "Grüße 👩‍👩‍👧‍👦 aus Ulm: 日本語, ä 𝄞 and a long tail of plain text."
JSON_ONLY = {"Accept": "application/json"}


def script(gates: list[asyncio.Event] | None = None, size: int = 3) -> list[list[Any]]:
    """A turn with a tool, and text in pieces that cut the emoji; before each piece of it a gate."""
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    answer: list[Any] = []
    for number, piece in enumerate(pieces):
        if gates is not None:
            gates.append(asyncio.Event())
            answer.append(gates[number])
        answer += [ReasoningDelta("hm"), TextDelta(piece)] if number % 4 == 0 else [TextDelta(piece)]
    return [
        says("Let me see. 🙂", ("c1", "echo", "{}")),
        [*answer, Completed(content=TEXT, tool_calls=(), stop="stop")],
    ]


def end_of(events: list[Frame]) -> Any:
    """The terminal event, the last one and the only one."""
    assert [name for _, name, _ in events].count("run.finished") == 1
    assert events[-1][1] == "run.finished"
    return events[-1][2]


async def test_the_log_of_a_run_and_its_ids(edge: Any) -> None:
    async with edge(ScriptedProvider(*script())) as e:
        streamed = await e.frames("POST", "/chat/stream", {"message": "x"})
        run_id = streamed[0][2]["run_id"]
        response = await e.client.get(f"/v1/runs/{run_id}/events")
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
        log = frames(response.content)
        assert [(event_id, name) for event_id, name, _ in log] == [
            ("1", "run.created"), ("2", "run.started"), ("2.13", "message.delta"), ("3", "message.completed"),
            ("4", "usage.recorded"), ("5", "tool.started"), ("6", "tool.finished"),
            (f"6.{len(TEXT)}", "message.delta"), ("7", "message.completed"), ("8", "usage.recorded"), ("9", "run.finished"),
        ]  # fmt: skip
        first, second = [data["message"] for _, name, data in log if name == "message.completed"]
        assert text_of(log, first["id"]) == first["content"] == "Let me see. 🙂"
        assert text_of(log, second["id"]) == second["content"] == TEXT
        assert (second["role"], first["tool_calls"][0]["name"]) == ("assistant", "echo")
        end = end_of(log)
        assert (end["status"], end["stop_reason"], end["output"]) == ("succeeded", "completed", TEXT)
        assert {"usage", "cost_usd"} <= set(end)
        (tool,) = [data for _, name, data in log if name == "tool.started"]
        assert (tool["call_id"], tool["name"], tool["arguments"]) == ("c1", "echo", {})


async def test_from_every_cursor_of_a_finished_run(edge: Any) -> None:
    async with edge(ScriptedProvider(*script())) as e:
        run_id = (await e.ask())["run_id"]
        path = f"/v1/runs/{run_id}/events"
        whole = await e.frames("GET", path)
        stored = [event for event in whole if event[1] != "message.delta"]
        for seq in range(1, 9):
            expected = [event for event in stored if int(event[0]) > seq]
            found = await e.frames("GET", path, **{"Last-Event-ID": str(seq)})
            assert [event for event in found if event[1] != "message.delta"] == expected
            assert end_of(found)
        for before, message in ((2, "Let me see. 🙂"), (6, TEXT)):
            for offset in range(1, len(message) + 1):
                found = await e.frames("GET", f"{path}?after={before}.{offset}")
                deltas = [data for _, name, data in found if name == "message.delta"]
                if offset < len(message):
                    assert (deltas[0]["offset"], deltas[0]["text"]) == (offset, message[offset:])
                    assert found[0][0] == f"{before}.{len(message)}"
                else:
                    assert found[0][1] == "message.completed"
                assert len(deltas) == (offset < len(message)) + (before == 2)
        assert await e.frames("GET", path, **{"Last-Event-ID": "9"}) == whole[-1:]
        assert await e.frames("GET", path, **{"Last-Event-ID": ""}) == whole
        assert await e.frames("GET", f"{path}?after=2", **{"Last-Event-ID": "9"}) == whole[-1:]
        for beyond in ("10", "9.1", f"6.{len(TEXT) + 1}", "2.14", "4.99", "999999999"):
            check(await e.client.get(path, headers={"Last-Event-ID": beyond}), 400, "invalid_cursor")


async def test_a_client_that_drops_after_every_kth_event(served: Any) -> None:
    gates: list[asyncio.Event] = []
    async with served(ScriptedProvider(*script(gates))) as (e, client):
        opened = asyncio.create_task(client.post("/chat", json={"message": "x"}))
        await until(lambda: len(e.provider.requests) == 2)
        run_id = (await client.get("/v1/runs")).json()["data"][0]["id"]

        async def reader(k: int) -> list[Frame]:
            found: list[Frame] = []
            last: dict[str, str] = {}
            while not found or found[-1][1] != "run.finished":
                async with streaming(client, "GET", f"/v1/runs/{run_id}/events", **last) as stream:
                    count = 0
                    async for frame in stream:
                        if frame is not None:
                            found.append(frame)
                            if frame[0] is not None:
                                last = {"Last-Event-ID": frame[0]}
                            count += 1
                        if count == k:
                            break
            return found

        readers = [asyncio.create_task(reader(k)) for k in (1, 2, 3, 7, 1000)]
        for gate in gates:
            gate.set()
            await asyncio.sleep(0)
        answer = (await opened).json()
        assert answer["response"] == TEXT
        for found in await asyncio.gather(*readers):
            assert end_of(found)["output"] == TEXT
            stored = [int(event_id) for event_id, _, _ in found if event_id and "." not in event_id]
            assert stored == list(range(1, 10))
            for message in [data["message"] for _, name, data in found if name == "message.completed"]:
                assert text_of(found, message["id"]) == message["content"]


async def come_back(client: Any, path: str, cuts: list[int]) -> list[Frame]:
    """The whole stream of a reader whom the service sends away; in `cuts` how much there was of it each time."""
    found: list[Frame] = []
    last: dict[str, str] = {}
    while not found or found[-1][1] != "run.finished":
        response = await client.get(path, headers=last)
        assert response.status_code == 200
        new = frames(response.content)
        cuts.append(len(new))
        assert (b": this connection ends" in response.content) == (not new or new[-1][1] != "run.finished")
        found += new
        ids = [event_id for event_id, _, _ in new if event_id]
        last = {"Last-Event-ID": ids[-1]} if ids else last
    return found


async def test_streams_that_are_too_old_are_handed_over(served: Any) -> None:
    gates: list[asyncio.Event] = []
    async with served(ScriptedProvider(*script(gates)), max_stream_age=0.05) as (e, client):
        opened = asyncio.create_task(client.post("/chat", json={"message": "x"}))
        await until(lambda: len(e.provider.requests) == 2)
        run_id = (await client.get("/v1/runs")).json()["data"][0]["id"]
        cuts: list[int] = []
        reading = asyncio.create_task(come_back(client, f"/v1/runs/{run_id}/events", cuts))
        for number, gate in enumerate(gates, 1):
            gate.set()
            while len(cuts) < number // 4:  # noqa: ASYNC110 - the reader comes back when it is sent away
                await asyncio.sleep(0.001)
        found = await reading
        assert end_of(found)["output"] == (await opened).json()["response"] == TEXT
        assert len(cuts) > 3
        for message in [data["message"] for _, name, data in found if name == "message.completed"]:
            assert text_of(found, message["id"]) == message["content"]


async def test_a_run_that_waits_for_a_person(edge: Any) -> None:
    async with edge(ScriptedProvider(says("May I?", ("c1", "risky", '{"x":1}')), says("done"))) as e:
        asked = await e.frames("POST", "/chat/stream", {"message": "x", "include_steps": True})
        assert [name for _, name, _ in asked] == ["start", "chunk", "done"]
        run_id, end = asked[0][2]["run_id"], asked[-1][2]
        assert (end["result"], end["status"], end["run_id"]) == (None, "waiting", run_id)
        (approval,) = end["approvals"]
        assert (approval["name"], approval["call_id"], approval["arguments"]) == ("risky", "c1", {"x": 1})
        assert (end["metadata"]["stop_reason"], len(end["metadata"]["steps"])) == ("approval_required", 1)
        path = f"/v1/runs/{run_id}/events"
        async with (
            listener(e.app, "GET", f"{path}?view=quick") as quick,
            listener(e.app, "GET", f"{path}?after={asked[-1][0]}") as log,
        ):
            await quick.seen(b'"status":"waiting"')
            assert not quick.ended
            await e.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "approve"})
            await until(lambda: quick.ended and log.ended)
        assert [name for _, name, _ in frames(bytes(quick.content))] == [
            "start", "chunk", "done", "tool", "tool", "chunk", "done",
        ]  # fmt: skip
        assert frames(bytes(quick.content))[-1][2]["result"] == "done"
        assert [name for _, name, _ in frames(bytes(log.content))][:2] == ["approval.resolved", "run.started"]


async def test_a_run_is_read_from_another_replica(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(says("Let me see.", ("c1", "echo", "{}")), [TextDelta("he"), gate, *says("hello")])
    async with edge(provider, hinted=True) as home, edge(ScriptedProvider(), hinted=True) as away:
        call = asyncio.create_task(home.ask())
        await until(lambda: len(provider.requests) == 2)
        run_id = (await away.client.get("/v1/runs")).json()["data"][0]["id"]
        async with listener(away.app, "GET", f"/v1/runs/{run_id}/events") as reader:
            await reader.seen(b"id: 6\n")
            assert (await away.client.get(f"/v1/runs/{run_id}/events?after=6.1", headers=JSON_ONLY)).status_code == 200
            gate.set()
            await until(lambda: reader.ended)
        log = frames(bytes(reader.content))
        assert end_of(log)["output"] == (await call)["response"]
        assert [int(event_id) for event_id, _, _ in log if event_id and "." not in event_id] == list(range(1, 10))
        assert away.runs.feeds.get(run_id) is None


async def test_a_reader_in_the_middle_of_a_message(edge: Any) -> None:
    gates: list[asyncio.Event] = []
    async with edge(ScriptedProvider(*script(gates, size=1))) as e:
        async with listener(e.app, "POST", "/chat/stream", {"message": "x"}) as first:
            await until(lambda: len(e.provider.requests) == 2)
            for gate in gates[:9]:
                gate.set()
            await first.seen(b"id: 6.9\n")
            run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
            path = f"/v1/runs/{run_id}/events"
            for beyond in ("6.10", "7", "2.14"):
                check(await e.client.get(path, headers={"Last-Event-ID": beyond}), 400, "invalid_cursor")
            async with (
                listener(e.app, "GET", f"{path}?after=6.9") as late,
                listener(e.app, "GET", f"{path}?after=6.4") as later,
            ):
                await later.seen(b"id: 6.9\n")
                assert len(late.content) == len(b"retry: 1000\n\n")
                for gate in gates:
                    gate.set()
                await until(lambda: late.ended and later.ended and first.ended)
        for client, offset in ((late, 9), (later, 4)):
            deltas = [data for _, name, data in frames(bytes(client.content)) if name == "message.delta"]
            assert deltas[0]["offset"] == offset
            assert "".join(delta["text"] for delta in deltas) == TEXT[offset:]
            end_of(frames(bytes(client.content)))
        assert "".join(d["text"] for _, n, d in frames(bytes(first.content)) if n == "chunk") == "Let me see. 🙂" + TEXT


async def test_reasoning_is_live_only(edge: Any) -> None:
    async with edge(ScriptedProvider([ReasoningDelta("because"), *says("ok")])) as e:
        async with listener(e.app, "POST", "/chat/stream", {"message": "x"}) as quick:
            await until(lambda: quick.ended)
        assert b"because" not in quick.content
        gate = asyncio.Event()
        e.provider.answers.append([ReasoningDelta("because"), gate, *says("ok")])
        call = asyncio.create_task(e.ask())
        await until(lambda: len(e.provider.requests) == 2)
        run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
        async with listener(e.app, "GET", f"/v1/runs/{run_id}/events") as live:
            await live.seen(b"because")
            gate.set()
            await until(lambda: live.ended)
        await call
        reasoning = [frame for frame in frames(bytes(live.content)) if frame[1] == "reasoning.delta"]
        assert [(event_id, data["text"]) for event_id, _, data in reasoning] == [(None, "because")]
        assert "reasoning.delta" not in [name for _, name, _ in await e.frames("GET", f"/v1/runs/{run_id}/events")]


async def test_several_readers_of_one_run_and_one_of_a_run_that_waits(served: Any) -> None:
    gates: list[asyncio.Event] = []
    provider = ScriptedProvider(*script(gates), says("second"))
    async with served(provider) as (_, client):
        first = asyncio.create_task(client.post("/chat", json={"message": "a", "session_id": "s"}))
        await until(lambda: len(provider.requests) == 2)
        second = asyncio.create_task(client.post("/chat", json={"message": "b", "session_id": "s"}))
        while len(runs := (await client.get("/v1/runs")).json()["data"]) < 2:
            pass
        waiting, running = runs
        assert (waiting["status"], running["status"]) == ("queued", "running")

        async def read(path: str) -> list[Frame]:
            async with streaming(client, "GET", path) as stream:
                return [frame async for frame in stream if frame is not None]

        paths = [f"/v1/runs/{run['id']}/events" for run in (running, running, running, waiting, waiting)]
        paths[2] += "?view=quick"
        readers = [asyncio.create_task(read(path)) for path in paths]
        for gate in gates:
            gate.set()
        await asyncio.gather(first, second)
        a, b, quick, c, d = await asyncio.gather(*readers)
        assert end_of(a)["output"] == end_of(b)["output"] == quick[-1][2]["result"] == TEXT
        assert end_of(c)["output"] == end_of(d)["output"] == "second"
        assert [name for _, name, _ in c][:2] == ["run.created", "run.started"]


async def test_a_page_of_events(edge: Any) -> None:
    async with edge(ScriptedProvider(*script())) as e:
        run_id = (await e.ask())["run_id"]
        log = [event for event in await e.frames("GET", f"/v1/runs/{run_id}/events") if event[1] != "message.delta"]
        found, after = [], "0"
        while True:
            path = f"/v1/runs/{run_id}/events?limit=4&after={after}"
            page = (await e.client.get(path, headers=JSON_ONLY)).json()
            assert set(page) == {"data", "next"}
            if not page["data"]:
                break
            assert len(page["data"]) <= 4
            assert all(set(event) == {"id", "event", "at", "data"} for event in page["data"])
            found += [(event["id"], event["event"], event["data"]) for event in page["data"]]
            after = page["next"]
        assert found == log
        assert (page["next"], after) == ("9", "9")
        beyond = await e.client.get(f"/v1/runs/{run_id}/events?after=10", headers=JSON_ONLY)
        check(beyond, 400, "invalid_cursor")
