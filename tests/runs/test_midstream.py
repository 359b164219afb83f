"""An answer that breaks after its first text: the journal says so, readers forget it, and the session has one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from app.domain.errors import ProviderError, ProvidersUnavailable
from app.domain.models import Restarted, TextDelta
from app.domain.principals import ANONYMOUS
from app.llm.router import Route
from app.runs.service import StartRun
from app.runs.stream import Item, parse_cursor
from tests.llm.targets import FakeTarget, fault, router_of
from tests.runs.asking import time_is_up
from tests.runs.test_durability import sound
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


def payloads(items: Sequence[Any], name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(item.payload) for item in items if item.name == name]


async def reads(p: Any, run_id: str, cursor: str = "") -> list[Item]:
    """Everything that a reader gets from there to the end."""
    found: list[Item] = []
    async for batch in await p.service.events(ANONYMOUS, run_id, parse_cursor(cursor)):
        found += batch
    return found


def spelled(items: Sequence[Item]) -> dict[str, str]:
    """The texts of the messages that were not reset."""
    texts: dict[str, str] = {}
    for item in items:
        said = msgspec.json.decode(item.payload)
        if item.name == "message.delta":
            text = texts.get(said["message_id"], "")
            assert said["offset"] == len(text)
            texts[said["message_id"]] = text + said["text"]
        elif item.name == "message.reset":
            texts.pop(said["message_id"], None)
    return texts


def route(**more: Any) -> Route:
    """One target that breaks twice after its text, and another that answers."""
    broken = FakeTarget("a", [TextDelta("Half "), fault("auth")])
    again = FakeTarget("b", [TextDelta("The oth"), fault("stream_broken")], [*says("The other answer.", pieces=3)])
    return Route(targets=(broken, again), **more)


async def test_the_session_has_one_answer(start_process: Any) -> None:
    async with start_process(router_of(route(), part=0.0)) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        live, end = await asyncio.gather(reads(p, started.run_id), p.service.result(started))
        assert (end.status, end.output, end.iterations, end.model) == ("succeeded", "The other answer.", 1, "m")
        events = await p.events(started.run_id)
        assert [event.name for event in events] == [
            "run.created", "run.started",
            "message.reset", "usage.recorded", "message.reset", "usage.recorded",
            "message.completed", "usage.recorded", "run.finished",
        ]  # fmt: skip
        outcomes = [(u["attempt"], u["provider"], u["outcome"]) for u in payloads(events, "usage.recorded")]
        assert outcomes == [(1, "a", "auth"), (2, "b", "stream_broken"), (3, "b", "ok")]
        (completed,) = payloads(events, "message.completed")
        ids = [reset["message_id"] for reset in payloads(events, "message.reset")] + [completed["message"]["id"]]
        assert len(set(ids)) == 3
        sound(events)

        for items in (live, await reads(p, started.run_id)):
            assert spelled(items) == {ids[-1]: "The other answer."}
        messages = await p.sessions.messages(ANONYMOUS, "s")
        assert [(message.role, message.content) for _, message in messages] == [
            ("user", "hello"),
            ("assistant", "The other answer."),
        ]


async def test_a_reader_is_told_before_the_new_text(start_process: Any) -> None:
    shown, go = asyncio.Event(), asyncio.Event()
    provider = ScriptedProvider(
        [TextDelta("Half "), shown, Restarted(), TextDelta("New "), go, *says("")[:-1], *says("New ")[1:]]
    )
    async with start_process(provider) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        reading = await p.service.events(ANONYMOUS, started.run_id, parse_cursor(""))
        seen: list[Item] = []
        async for batch in reading:
            seen += batch
            if spelled(seen) and "Half " in spelled(seen).values():
                shown.set()
            if "New " in spelled(seen).values():
                break
        await reading.aclose()
        (old,) = payloads(seen, "message.reset")
        deltas = payloads(seen, "message.delta")
        assert deltas[0]["message_id"] == old["message_id"] != deltas[-1]["message_id"]
        # One who had some of the old text, and comes back with its id, gets the reset and then all of the new.
        half = next(item.id for item in seen if item.name == "message.delta")
        later = await p.service.events(ANONYMOUS, started.run_id, parse_cursor(half))
        go.set()
        items = [item async for batch in later for item in batch]
        assert next(item.name for item in items) == "message.reset"
        assert payloads(items, "message.reset") == [old]
        assert list(spelled(items).values()) == ["New "]


async def test_or_the_run_ends_with_the_error(start_process: Any) -> None:
    async with start_process(router_of(route(on_midstream="error"))) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        end = await p.service.result(started)
        assert (end.status, end.stop_reason, end.error.code) == (
            "failed",
            "providers_unavailable",
            "providers_unavailable",
        )
        names = await p.names(started.run_id)
        assert names == ["run.created", "run.started", "usage.recorded", "run.finished"]


async def test_nobody_left_to_answer_anew(start_process: Any) -> None:
    broken = FakeTarget("a", TextDelta("Half "), fault("stream_broken"))
    async with start_process(router_of(Route(targets=(broken,)), part=0.0)) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        end = await p.service.result(started)
        assert (end.status, end.error.code) == ("failed", "providers_unavailable")
        names = await p.names(started.run_id)
        assert (names.count("message.reset"), names.count("usage.recorded"), names.count("message.completed")) == (
            2,
            3,
            0,
        )
        messages = await p.sessions.messages(ANONYMOUS, "s")
        assert [message.role for _, message in messages] == ["user"]


@pytest.mark.parametrize("cause", ["cancelled", "timeout"])
async def test_a_stop_after_the_restart_ends_the_run(start_process: Any, cause: str) -> None:
    never = asyncio.Event()
    down = ProvidersUnavailable("default", [ProviderError("connect", "refused")])
    provider = ScriptedProvider([TextDelta("Half "), Restarted(), TextDelta("New "), never], [down])
    async with start_process(provider) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        await until(lambda: (feed := p.feeds.get(started.run_id)) is not None and feed.chunks == ["New "])
        if cause == "cancelled":
            await p.service.cancel(ANONYMOUS, started.run_id, None)
        else:
            await time_is_up(p, started.run_id)
        end = await p.service.result(started)
        assert (end.stop_reason, provider.closed) == (cause, len(provider.requests))
        names = await p.names(started.run_id)
        assert "message.completed" not in names
        if cause == "cancelled":
            assert (names.count("message.reset"), names.count("usage.recorded")) == (1, 1)
        else:  # what was shown is taken back for the plain call, which is over soon too
            assert names.count("message.reset") == 2


async def test_a_session_keeps_its_alternative(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), says("two"), says("three"))
    async with start_process(provider) as p:
        for session in ("s", "s", "t"):
            started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id=session))
            await p.service.result(started)
        assert [request.affinity for request in provider.requests] == ["s", "s", "t"]
