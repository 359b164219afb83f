"""Runs over one socket, behind the real server."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from app.domain.principals import Principal
from tests.api.edge import listening, text_of
from tests.api.sockets import talking, talking_to
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

TURN = (says("Let me see.", ("c1", "echo", '{"a":1}')), says("It is 1.", pieces=3))
LOG = [
    "run.created", "run.started", "message.delta", "message.completed", "usage.recorded", "tool.started", "tool.finished",
    "message.delta", "message.completed", "usage.recorded", "run.finished",
]  # fmt: skip


def log_of(frames: list[dict[str, Any]]) -> list[tuple[str | None, str, Any]]:
    """The events among the frames, as those of a stream."""
    return [(frame["id"], frame["event"], frame["data"]) for frame in frames if frame["type"] == "event"]


async def connections(e: Any, number: int) -> None:
    """Returns once the process counts so many connections."""
    while f"agent_active_connections {number}.0" not in (await e.client.get("/metrics")).text:  # noqa: ASYNC110 - the gauge wakes nobody
        await asyncio.sleep(0)


@pytest.mark.parametrize("first", [{"type": "auth", "token": "anything"}, None])
async def test_a_run_is_begun_and_followed(edge: Any, first: Any) -> None:
    async with edge(ScriptedProvider(*TURN)) as e, talking(e.app) as talk:
        if first is not None:
            await talk.socket.send_json(first)
        await talk.say("run", message="What is it?", agent="helper", session_id="s", tags={"a": "b"}, user_id="ann")
        frames = await talk.hear_all()
        assert {frozenset(frame) for frame in frames} == {frozenset({"type", "run_id", "event", "id", "data"})}
        assert list(dict.fromkeys(name for _, name, _ in log_of(frames))) == list(dict.fromkeys(LOG))
        run = await e.run(frames[0]["run_id"])
        assert (run["status"], run["session_id"], run["tags"], run["user_id"]) == ("succeeded", "s", {"a": "b"}, "ann")
        assert frames[-1]["data"]["output"] == "It is 1."
        events = log_of(frames)
        streamed = await e.frames("GET", f"/v1/runs/{run['id']}/events")
        assert [event for event in events if event[1] != "message.delta"] == [
            event for event in streamed if event[1] != "message.delta"
        ]


async def test_a_named_command_is_answered_by_its_name(edge: Any) -> None:
    async with edge(ScriptedProvider(*TURN)) as e, talking(e.app) as talk:
        await talk.say("auth", token="t", ref="0")
        assert await talk.hear() == {"type": "ack", "ref": "0"}
        await talk.say("ping", ref="p")
        assert await talk.hear() == {"type": "pong", "ref": "p"}
        await talk.say("run", input={"any": "json"}, ref="1")
        ack, *events = await talk.hear_all()
        assert ack == {"type": "ack", "ref": "1", "run_id": events[0]["run_id"], "session_id": ack["session_id"]}
        assert {frame["ref"] for frame in events} == {"1"}
        await talk.say("run", agent="nobody", input=1, ref="2")
        assert (await talk.refused("not_found"))["ref"] == "2"
        await talk.say("cancel", run_id=ack["run_id"], ref="3")
        assert await talk.hear() == {"type": "ack", "ref": "3", "run_id": ack["run_id"]}


async def test_any_run_is_followed_from_any_event(edge: Any) -> None:
    async with edge(ScriptedProvider(*TURN)) as e, talking(e.app) as talk:
        run_id = (await e.ask())["run_id"]
        whole = await e.frames("GET", f"/v1/runs/{run_id}/events")
        for place in range(-1, len(whole)):
            after = None if place < 0 else whole[place][0]
            await talk.say("subscribe", run_id=run_id, after=after)
            found = log_of(await talk.hear_all())
            expected = whole[place + 1 :] or whole[-1:]
            assert found == expected
        await talk.say("subscribe", run_id=run_id, after=2)
        assert (await talk.hear_all())[0]["event"] == "message.delta"
        for after in ("x", "999", "2.999", -1):
            await talk.say("subscribe", run_id=run_id, after=after)
            assert (await talk.refused("invalid_cursor"))["run_id"] == run_id
        await talk.say("subscribe", run_id="nothing")
        await talk.refused("not_found")


async def test_several_runs_over_one_socket(edge: Any) -> None:
    gates = [asyncio.Event() for _ in range(5)]
    scripts = [[*says(f"a{n} ", pieces=1)[:1], gate, *says(f"a{n} b{n}")] for n, gate in enumerate(gates)]
    async with edge(ScriptedProvider(*scripts)) as e, talking(e.app) as talk:
        for number in range(5):
            await talk.say("run", message=f"q{number}", ref=str(number))
        started: dict[str, str] = {}
        while len(started) < 5:
            frame = await talk.hear()
            if frame["type"] == "ack":
                started[frame["ref"]] = frame["run_id"]
        await until(lambda: len(e.provider.requests) == 5)
        for gate in reversed(gates):
            gate.set()
        frames = await talk.hear_all(5)
        ends = {frame["ref"]: frame["run_id"] for frame in frames if frame.get("event") == "run.finished"}
        assert ends == started
        assert e.provider.closed == 5


async def test_a_live_run_is_cancelled(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e, talking(e.app) as talk:
        await talk.say("run", message="x")
        run_id = (await talk.hear())["run_id"]
        await until(lambda: e.provider.requests)
        await talk.say("cancel", run_id=run_id, reason="enough")
        end = (await talk.hear_all())[-1]["data"]
        assert (end["status"], end["cancellation"]["reason"]) == ("cancelled", "enough")
        await talk.say("cancel", run_id=run_id)
        await talk.say("cancel", run_id="nothing")
        assert (await talk.refused("not_found"))["run_id"] == "nothing"


async def test_a_run_that_waits_stays_followed(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "risky", "{}")), says("done"))) as e, talking(e.app) as talk:
        await talk.say("run", message="x")
        while (frame := await talk.hear())["event"] != "run.waiting":
            pass
        approval = frame["data"]["approvals"][0]["id"]
        await e.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})
        assert (await talk.hear_all())[-1]["data"]["output"] == "done"


async def test_a_client_that_leaves_does_not_end_its_run(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([*says("half ")[:1], gate, *says("half done")])) as e, listening(e.app) as port:
        async with talking_to(port) as talk:
            await talk.say("run", message="x")
            frames = [await talk.hear()]
            while frames[-1]["event"] != "message.delta":
                frames.append(await talk.hear())
        run_id, last = frames[-1]["run_id"], frames[-1]["id"]
        gate.set()
        await e.became(run_id, "succeeded")
        async with talking_to(port) as talk:
            await talk.say("subscribe", run_id=run_id, after=last)
            frames += await talk.hear_all()
        events = log_of(frames)
        assert text_of(events) == events[-1][2]["output"]


async def test_a_second_subscription_takes_the_place_of_the_first(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("done")])) as e, talking(e.app) as talk:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": 1, "background": True})).json()
        for _ in range(3):
            await talk.say("subscribe", run_id=run["id"])
            assert [(await talk.hear())["event"] for _ in range(2)] == ["run.created", "run.started"]
        gate.set()
        names = [frame["event"] for frame in await talk.hear_all()]
        assert names.count("message.completed") == names.count("run.finished") == 1
        await talk.say("ping")
        assert await talk.hear() == {"type": "pong"}


async def test_a_socket_follows_so_many_runs_at_once(edge: Any) -> None:
    gate = asyncio.Event()
    async with (
        edge(ScriptedProvider(*[[gate, *says("done")] for _ in range(33)]), concurrency=40) as e,
        talking(e.app) as talk,
    ):
        for _ in range(32):
            await talk.say("run", message="x")
        await talk.say("run", message="x", ref="one too many")
        frames: list[Any] = []
        while not frames or frames[-1]["type"] != "error":
            frames.append(await talk.hear())
        assert (frames[-1]["problem"]["code"], frames[-1]["ref"]) == ("queue_full", "one too many")
        run_id = frames[0]["run_id"]
        await talk.say("unsubscribe", run_id=run_id, ref="u")
        await talk.say("run", message="x", ref="now")
        acks: list[str] = []
        while len(acks) < 2:
            frame = await talk.hear()
            acks += [frame["ref"]] if frame["type"] == "ack" else []
        assert acks == ["u", "now"]
        gate.set()
        frames = await talk.hear_all(32)
        assert run_id not in {frame["run_id"] for frame in frames}


async def test_one_key_is_one_run(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e, talking(e.app) as talk:
        acks = []
        for ref in ("1", "2"):
            await talk.say("run", message="x", idempotency_key="k", ref=ref)
            ack, *events = await talk.hear_all()
            acks.append(ack)
            assert events[0]["event"] == "run.created"
        assert acks[0]["run_id"] == acks[1]["run_id"]
        assert [ack.get("replayed", False) for ack in acks] == [False, True]
        await talk.say("run", message="y", idempotency_key="k")
        await talk.refused("idempotency_key_reused")


GARBAGE = [
    "", "x", "{", "[]", "1", "null", "{}", '{"type":1}', '{"type":"nothing"}', '{"type":"run"}', '{"type":"subscribe"}',
    '{"type":"run","message":"a","input":1}', '{"type":"run","message":""}', '{"type":"run","message":"\\u0000"}',
    '{"type":"run","message":"a","x":1}', '{"type":"cancel","run_id":1}', '{"type":"run","message":"\\ud800"}',
    '{"type":"run","input":1,"idempotency_key":"a b"}', '{"type":"auth"}', "[" * 5000, '{"type":"run","input":' + "[" * 200 + "]" * 200 + "}",
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_frames_that_are_no_command(edge: Any, garbage: str) -> None:
    async with edge(ScriptedProvider(says("fine"))) as e, talking(e.app) as talk:
        for binary in (False, True):
            await (talk.socket.send_bytes(garbage.encode()) if binary else talk.socket.send_str(garbage))
            frame = await talk.hear()
            assert frame["type"] == "error"
            assert frame["problem"]["status"] in (400, 422)
        await talk.say("run", message="x")
        assert (await talk.hear_all())[-1]["data"]["output"] == "fine"
        for _ in range(3):
            await talk.socket.send_str(garbage)
        assert await talk.closed() == 1008


async def test_the_name_of_a_command_that_is_none_is_told(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e, talking(e.app) as talk:
        await talk.say("nothing", ref="r")
        assert (await talk.refused("validation_error"))["ref"] == "r"
        await talk.socket.send_bytes(b'{"type":"\xff"}')
        assert "ref" not in await talk.refused("invalid_encoding")


async def test_a_frame_that_is_too_large(edge: Any) -> None:
    async with edge(ScriptedProvider(), max_body=1000) as e, talking(e.app) as talk:
        await talk.say("run", message="x" * 1000)
        await talk.refused("body_too_large")
        assert await talk.closed() == 1009


async def test_sockets_count_as_streams(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok")), max_streams=1) as e, listening(e.app) as port:
        async with talking_to(port) as talk:
            await talk.say("ping")
            await talk.hear()
            async with talking_to(port) as other:
                await other.refused("queue_full")
                assert await other.closed() == 1013
            assert (await e.client.post("/chat/stream", json={"message": "x"})).status_code == 429
            await connections(e, 1)
        await connections(e, 0)
        assert (await e.client.post("/chat/stream", json={"message": "x"})).status_code == 200


async def test_a_process_that_closes_sends_its_sockets_elsewhere(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e, listening(e.app) as port:
        async with talking_to(port) as idle, talking_to(port) as busy:
            await busy.say("run", message="x")
            await busy.hear()
            await idle.say("ping")
            await idle.hear()
            e.gate.closed = "closing"
            assert await idle.closed() == 1012
            assert await busy.closed() == 1012
        async with talking_to(port) as late:
            await late.refused("not_ready")
            assert await late.closed() == 1013


async def test_an_old_socket_is_handed_over(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()]), max_stream_age=0.2) as e, talking(e.app) as talk:
        await talk.say("run", message="x")
        assert (await talk.hear())["event"] == "run.created"
        assert await talk.closed() == 1001


@pytest.mark.parametrize(
    ("origin", "allowed"), [("http://evil.example", False), ("null", False), ("http://127.0.0.1:{}", True)]
)
async def test_pages_of_other_origins_are_refused(edge: Any, origin: str, allowed: bool) -> None:
    async with edge(ScriptedProvider()) as e, listening(e.app) as port:
        if allowed:
            async with talking_to(port, origin=origin.format(port)) as talk:
                await talk.say("ping")
                assert await talk.hear() == {"type": "pong"}
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with talking_to(port, origin=origin):
                pass
        assert refused.value.status == 403


async def test_runs_of_others_cannot_be_followed(edge: Any) -> None:
    bob = Principal(tenant="default", user="bob")
    async with edge(ScriptedProvider(says("ok"))) as e, edge(ScriptedProvider(), react(), principal=bob) as other:
        run_id = (await e.ask(user_id="ann"))["run_id"]
        async with talking(other.app) as talk:
            await talk.say("subscribe", run_id=run_id)
            await talk.refused("not_found")
            await talk.say("cancel", run_id=run_id)
            await talk.refused("not_found")
