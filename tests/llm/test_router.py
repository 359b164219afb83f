"""Which target answers, for how long it is waited for, what its breaker hears, and what is written down about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import pytest

from app.domain.errors import FailureKind, ProviderError, ProvidersUnavailable
from app.domain.models import Attempt, ModelChunk, ModelRequest, ReasoningDelta, Recorder, Restarted, TextDelta
from app.llm.router import Route, Router
from tests.llm.messages import REQUEST
from tests.llm.targets import DONE, HELLO, FakeTarget, Gate, call, failing, fault, outcomes, router_of, run
from tests.llm.wire import collect, whole
from tests.waiting import until

AGAIN: Sequence[FailureKind] = (
    "connect", "conflict", "rate_limited", "overloaded", "server_error", "stream_broken", "stream_error",
)  # fmt: skip
SLOW: Sequence[FailureKind] = ("connect_timeout", "first_token_timeout", "idle_timeout")
SHUT: Sequence[FailureKind] = ("quota", "auth", "permission", "unknown_model")
REFUSED: Sequence[FailureKind] = ("bad_request", "content_policy", "tool_schema", "context_window")


async def test_the_first_target_that_can_answers() -> None:
    ran = await run(FakeTarget("a", *HELLO), FakeTarget("b", *HELLO))
    assert ran.failure is None
    assert whole(ran.chunks) is DONE
    assert ran.outcomes == [(1, "a", "ok")]
    assert ran.gate.told == [("a", "succeeded")]
    (attempt,) = ran.recorder.attempts
    assert attempt.first_token is not None
    assert attempt.ended is not None
    assert attempt.started <= attempt.first_token <= attempt.ended <= time.monotonic()


@pytest.mark.parametrize("kind", AGAIN)
async def test_what_may_pass_is_asked_twice_again_before_the_next(kind: FailureKind) -> None:
    ran = await run(failing("a", kind), FakeTarget("b", *HELLO))
    assert ran.failure is None
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", kind), (2, "a", kind), (3, "a", kind), (4, "b", "ok")]
    assert ran.pauses == [0.5, 1.0]
    assert ran.gate.told == [("a", "counts")] * 3 + [("b", "succeeded")]


@pytest.mark.parametrize("kind", SLOW)
async def test_what_is_slow_is_asked_again_only_where_nobody_else_is_left(kind: FailureKind) -> None:
    ran = await run(failing("a", kind), FakeTarget("b", [fault(kind)], [fault(kind)], list(HELLO)))
    assert ran.failure is None
    assert ran.outcomes == [(1, "a", kind), (2, "b", kind), (3, "b", kind), (4, "b", "ok")]
    assert ran.gate.told == [("a", "counts"), ("b", "counts"), ("b", "counts"), ("b", "succeeded")]


@pytest.mark.parametrize("kind", SHUT)
async def test_what_is_of_no_use_is_never_asked_again(kind: FailureKind) -> None:
    ran = await run(failing("a", kind), FakeTarget("b", *HELLO))
    assert ran.chunks == list(HELLO)
    assert (ran.outcomes, ran.pauses) == ([(1, "a", kind), (2, "b", "ok")], [])
    assert ran.gate.told == [("a", "counts" if kind == "permission" else "opens"), ("b", "succeeded")]

    alone = await run(failing("a", kind))
    assert isinstance(alone.failure, ProvidersUnavailable)
    assert alone.outcomes == [(1, "a", kind)]


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_refused_request_is_not_asked_again(kind: FailureKind) -> None:
    ran = await run(failing("a", "auth"), failing("b", kind), FakeTarget("c", *HELLO))
    assert type(ran.failure) is ProviderError
    assert (ran.failure.kind, ran.failure.provider) == (kind, "b")
    assert (ran.chunks, ran.pauses) == ([], [])
    assert ran.outcomes == [(1, "a", "auth"), (2, "b", kind)]
    assert ran.gate.told == [("a", "opens"), ("b", "abandoned")]


async def test_a_second_try_answers() -> None:
    ran = await run(FakeTarget("a", [fault("overloaded")], list(HELLO)), FakeTarget("b", *HELLO))
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", "overloaded"), (2, "a", "ok")]


async def test_money_is_asked_for_at_another_account() -> None:
    same = FakeTarget("a", *HELLO, model="other")
    ran = await run(failing("a", "quota"), same, FakeTarget("b", *HELLO))
    assert ran.outcomes == [(1, "a", "quota"), (2, "b", "ok")]
    ran = await run(failing("a", "quota"), same)
    assert isinstance(ran.failure, ProvidersUnavailable)
    assert ran.failure.kind == "quota"
    assert same.asked == 0


@pytest.mark.parametrize(
    ("windows", "answers"),
    [
        ({}, None),
        ({"b/m": 9}, None),
        ({"a/m": 5}, None),
        ({"a/m": 5, "b/m": 5}, None),
        ({"a/m": 5, "b/m": 6}, "b"),
        ({"a/m": 5, "b/m": 4, "c/m": 6}, "c"),
    ],
)
async def test_only_a_larger_window_is_asked_after_an_overflow(windows: dict[str, int], answers: str | None) -> None:
    targets = (failing("a", "context_window"), FakeTarget("b", *HELLO), FakeTarget("c", *HELLO))
    ran = await call(Route(targets=targets, windows=windows))
    assert ran.outcomes == [(1, "a", "context_window"), *([(2, answers, "ok")] if answers else [])]
    assert (type(ran.failure) is ProviderError) == (answers is None)


async def test_all_targets_failed() -> None:
    ran = await run(failing("a", "auth"), failing("b", "unknown_model"))
    assert isinstance(ran.failure, ProvidersUnavailable)
    assert ran.chunks == []
    assert [(e.provider, e.kind) for e in ran.failure.attempts] == [("a", "auth"), ("b", "unknown_model")]
    assert ran.failure.route == "default"


async def test_reasoning_and_signs_of_life_are_no_text() -> None:
    first = failing("a", "auth", ReasoningDelta("hm"), ReasoningDelta(""))
    ran = await run(first, FakeTarget("b", *HELLO))
    assert ran.failure is None
    assert ran.chunks == [ReasoningDelta("hm"), *HELLO]
    assert ran.recorder.attempts[0].first_token is not None


async def test_the_first_token_is_the_first_that_is_shown() -> None:
    """A sign of life alone keeps the first token's timeout away, and is no token."""
    busy = FakeTarget("a", ReasoningDelta(""), asyncio.Event())
    ran = await run(busy, FakeTarget("b", ReasoningDelta(""), DONE), first=0.02, idle=0.03)
    assert ran.failure is None
    assert ran.outcomes == [(1, "a", "idle_timeout"), (2, "b", "ok")]
    silent, calls = ran.recorder.attempts
    assert silent.first_token is None
    assert calls.first_token is not None


async def test_a_target_that_never_ends_its_answer_has_broken_it() -> None:
    ran = await run(FakeTarget("a", ReasoningDelta("hm")), FakeTarget("b"))
    assert isinstance(ran.failure, ProvidersUnavailable)
    assert {(name, outcome) for _, name, outcome in ran.outcomes} == {("a", "stream_broken"), ("b", "stream_broken")}


async def test_first_token_timeout() -> None:
    slow = FakeTarget("a", asyncio.Event(), *HELLO)
    ran = await run(slow, FakeTarget("b", *HELLO), first=0.02)
    assert ran.failure is None
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", "first_token_timeout"), (2, "b", "ok")]


async def test_all_attempts_share_one_deadline() -> None:
    targets = [FakeTarget(name, asyncio.Event()) for name in "abc"]
    ran = await run(*targets, first=0.04, timeout=0.06)
    assert isinstance(ran.failure, ProvidersUnavailable)
    assert ran.failure.kind == "total_timeout"
    assert ran.outcomes == [(1, "a", "first_token_timeout"), (2, "b", "total_timeout")]
    assert ran.gate.told == [("a", "counts"), ("b", "abandoned")]


async def test_the_deadline_also_ends_an_answer_that_keeps_coming() -> None:
    class Endless(FakeTarget):
        async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
            while True:
                await asyncio.sleep(0)
                yield ReasoningDelta("hm")

    ran = await run(Endless("a"), timeout=0.03)
    assert ran.failure is not None
    assert ran.failure.kind == "total_timeout"
    assert ran.recorder.attempts[0].outcome == "total_timeout"


async def test_no_pause_goes_beyond_the_deadline() -> None:
    ran = await run(failing("a", "overloaded"), FakeTarget("b", *HELLO), timeout=0.4)
    assert (ran.outcomes, ran.pauses) == ([(1, "a", "overloaded"), (2, "b", "ok")], [])


async def test_a_stop_ends_the_pause() -> None:
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    gate, recorder = Gate(), Recorder()
    router = router_of(Route(targets=(failing("a", "overloaded"),)), gate, sleep=sleep)
    task = asyncio.create_task(collect(router.stream(REQUEST, recorder)))
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (outcomes(recorder), gate.told) == ([(1, "a", "overloaded")], [("a", "counts")])


async def test_a_slow_consumer_uses_none_of_the_target_s_patience() -> None:
    route = Route(targets=(FakeTarget("a", *HELLO),), first_token_timeout=0.02, idle_timeout=0.02)
    stream = router_of(route).stream(REQUEST, Recorder())
    assert await anext(stream) == TextDelta("hel")
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.06, later.set)
    await later.wait()
    assert await collect(stream) == [TextDelta("lo"), DONE]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_whoever_stops_early_leaves_nothing_open(after: int) -> None:
    target, gate, recorder = FakeTarget("a", *HELLO), Gate(), Recorder()
    stream = router_of(Route(targets=(target,)), gate).stream(REQUEST, recorder)
    for _ in range(after):
        await anext(stream)
    await stream.aclose()
    assert target.closed == target.asked == min(after, 1)
    assert [a.outcome for a in recorder.attempts] == {0: [], 3: ["ok"]}.get(after, ["cancelled"])
    assert gate.told == {0: [], 3: [("a", "succeeded")]}.get(after, [("a", "abandoned")])


async def test_a_cancellation_is_never_taken_for_a_timeout() -> None:
    target, gate, recorder = FakeTarget("a", asyncio.Event()), Gate(), Recorder()
    route = Route(targets=(target, FakeTarget("b", *HELLO)), first_token_timeout=0.03)
    task = asyncio.create_task(collect(router_of(route, gate).stream(REQUEST, recorder)))
    await until(lambda: target.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(recorder) == [(1, "a", "cancelled")]
    assert (target.closed, gate.told) == (1, [("a", "abandoned")])


async def test_a_timeout_leaves_the_task_uncancelled() -> None:
    async def wait() -> int:
        ran = await run(FakeTarget("a", asyncio.Event()), first=0.01)
        assert ran.failure is not None
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(1):  # a cancellation left behind would end it
            await asyncio.sleep(0)
        return task.cancelling()

    assert await asyncio.create_task(wait()) == 0


async def test_a_fault_of_ours_is_not_a_failure_of_the_provider() -> None:
    class Faulty(FakeTarget):
        async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
            if not attempt.outcome:
                raise ZeroDivisionError
            yield DONE

    gate, recorder = Gate(), Recorder()
    router = router_of(Route(targets=(Faulty("a"), FakeTarget("b", *HELLO))), gate)
    with pytest.raises(ZeroDivisionError):
        await collect(router.stream(REQUEST, recorder))
    assert (outcomes(recorder), gate.told) == ([(1, "a", None)], [("a", "abandoned")])


async def test_a_route_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        await collect(Router(routes={}, breakers=Gate()).stream(REQUEST, Recorder()))


class TestBreakers:
    async def test_an_open_one_is_passed_over(self) -> None:
        first = FakeTarget("a", *HELLO)
        ran = await run(first, FakeTarget("b", *HELLO), gate=Gate("a"))
        assert (ran.outcomes, first.asked) == ([(1, "b", "ok")], 0)

    async def test_all_open_fails_at_once(self) -> None:
        ran = await run(FakeTarget("a", *HELLO), FakeTarget("b", *HELLO), gate=Gate("a", "b"))
        assert isinstance(ran.failure, ProvidersUnavailable)
        assert [(e.provider, e.kind) for e in ran.failure.attempts] == [("a", "circuit_open"), ("b", "circuit_open")]
        assert (ran.outcomes, ran.gate.told) == ([], [])

    async def test_one_that_opens_on_the_way_ends_the_tries(self) -> None:
        gate = Gate()

        class Opening(FakeTarget):
            def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
                gate.shut.add("a")
                return super().stream(request, attempt)

        ran = await run(Opening("a", fault("overloaded")), gate=gate)
        assert isinstance(ran.failure, ProvidersUnavailable)
        assert [e.kind for e in ran.failure.attempts] == ["overloaded"]

    async def test_a_long_hint_opens_it(self) -> None:
        for hint, effect in ((30.0, "counts"), (30.5, "opens")):
            ran = await run(FakeTarget("a", fault("overloaded", hint)), timeout=20)
            assert (ran.gate.told, ran.gate.hints) == ([("a", effect)], [hint])


class TestMidStream:
    async def test_another_answer_begins_anew(self) -> None:
        ran = await run(failing("a", "auth", TextDelta("hel")), FakeTarget("b", *HELLO))
        assert ran.failure is None
        assert ran.chunks == [TextDelta("hel"), Restarted(), *HELLO]
        assert ran.outcomes == [(1, "a", "auth"), (2, "b", "ok")]

    async def test_also_one_of_the_same_target(self) -> None:
        ran = await run(FakeTarget("a", [TextDelta("hel"), fault("stream_broken")], list(HELLO)))
        assert ran.chunks == [TextDelta("hel"), Restarted(), *HELLO]
        assert ran.pauses == [0.5]

    async def test_what_showed_nothing_is_not_taken_back(self) -> None:
        cut = failing("b", "auth", ReasoningDelta("hm"))
        ran = await run(failing("a", "auth", TextDelta("hel")), cut, FakeTarget("c", *HELLO))
        assert ran.chunks == [TextDelta("hel"), Restarted(), ReasoningDelta("hm"), *HELLO]

    async def test_text_is_not_taken_back_for_nobody(self) -> None:
        ran = await run(failing("a", "auth", TextDelta("hel")), FakeTarget("b", *HELLO), gate=Gate("b"))
        assert isinstance(ran.failure, ProvidersUnavailable)
        assert ran.chunks == [TextDelta("hel")]

    async def test_or_the_error_itself(self) -> None:
        targets = (failing("a", "stream_broken", TextDelta("hel")), FakeTarget("b", *HELLO))
        ran = await call(Route(targets=targets, on_midstream="error"))
        assert type(ran.failure) is ProviderError
        assert (ran.failure.kind, ran.chunks, ran.outcomes) == (
            "stream_broken",
            [TextDelta("hel")],
            [(1, "a", "stream_broken")],
        )
        assert ran.gate.told == [("a", "counts")]

    async def test_before_text_that_setting_changes_nothing(self) -> None:
        targets = (failing("a", "auth", ReasoningDelta("hm")), FakeTarget("b", *HELLO))
        assert (await call(Route(targets=targets, on_midstream="error"))).failure is None

    async def test_whoever_stops_at_the_restart_leaves_nothing_open(self) -> None:
        gate, recorder = Gate(), Recorder()
        route = Route(targets=(failing("a", "auth", TextDelta("hel")), FakeTarget("b", *HELLO)))
        stream = router_of(route, gate).stream(REQUEST, recorder)
        assert [await anext(stream), await anext(stream)] == [TextDelta("hel"), Restarted()]
        await stream.aclose()
        assert outcomes(recorder) == [(1, "a", "auth")]
        assert gate.told == [("a", "opens"), ("b", "abandoned")]
