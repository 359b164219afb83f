"""A second target beside one that is slow to begin: who wins, what becomes of the loser, and how seldom that is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from app.domain.errors import ProviderError, ProvidersUnavailable
from app.domain.models import Attempt, ModelChunk, ModelRequest, ReasoningDelta, Recorder, Restarted, TextDelta
from app.llm.gatekeeper import Permit
from app.llm.hedging import SHARE, Allowance
from app.llm.router import Route
from tests.llm.messages import REQUEST
from tests.llm.targets import DONE, HELLO, FakeTarget, Gate, Ran, Step, call, failing, fault, outcomes, router_of
from tests.llm.wire import collect
from tests.waiting import until

SOON = 0.01
OTHER = (TextDelta("good "), TextDelta("day"), DONE)


class Signal(FakeTarget):
    """Sets `go` as soon as it is asked."""

    def __init__(self, go: asyncio.Event, name: str, *steps: Step | list[Step]) -> None:
        super().__init__(name, *steps)
        self._go = go

    def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        self._go.set()
        return super().stream(request, attempt)


class Ending(FakeTarget):
    """Sets `gone` once it has ended."""

    def __init__(self, gone: asyncio.Event, name: str, *steps: Step) -> None:
        super().__init__(name, *steps)
        self._gone = gone

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        try:
            async for chunk in super().stream(request, attempt):
                yield chunk
        finally:
            asyncio.get_running_loop().call_soon(self._gone.set)


async def hedged(*targets: FakeTarget, after: float = SOON, gate: Gate | None = None) -> Ran:
    """One call that may be hedged."""
    gate = gate or Gate()
    router = router_of(Route(targets=targets, hedge_after=after), gate)
    allowance = router._allowances["default"]
    for _ in range(SHARE - 1):
        allowance.called()
    ran = await call(router._routes["default"], gate, router=router)
    assert all(target.asked == target.closed for target in targets)
    return ran


async def test_the_second_wins_where_the_first_is_silent() -> None:
    ran = await hedged(FakeTarget("a", asyncio.Event()), FakeTarget("b", *OTHER), FakeTarget("c", *HELLO))
    assert ran.failure is None
    assert ran.chunks == list(OTHER)
    assert ran.outcomes == [(1, "a", "cancelled"), (2, "b", "ok")]
    assert sorted(ran.gate.told) == [("a", "abandoned"), ("b", "succeeded")]


async def test_the_first_wins_where_it_begins_before_the_second() -> None:
    begun = asyncio.Event()

    ran = await hedged(FakeTarget("a", begun, *HELLO), Signal(begun, "b", asyncio.Event()))
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", "ok"), (2, "b", "cancelled")]
    assert sorted(ran.gate.told) == [("a", "succeeded"), ("b", "abandoned")]


@pytest.mark.parametrize("text", [True, False])
async def test_of_two_that_begin_at_once_one_is_taken(text: bool) -> None:
    """Also where both are whole at once: only one has answered."""
    go = asyncio.Event()
    if not text:
        ran = await hedged(FakeTarget("a", go, DONE), Signal(go, "b", DONE))
        assert (sorted(attempt.outcome or "" for attempt in ran.recorder.attempts), ran.chunks) == (
            ["cancelled", "ok"],
            [DONE],
        )
        return
    ran = await hedged(FakeTarget("a", go, *HELLO), Signal(go, "b", *OTHER))
    assert sorted(attempt.outcome or "" for attempt in ran.recorder.attempts) == ["cancelled", "ok"]
    winner = next(attempt.provider for attempt in ran.recorder.attempts if attempt.outcome == "ok")
    assert ran.chunks == list(HELLO if winner == "a" else OTHER)


async def test_an_only_target_is_asked_twice() -> None:
    ran = await hedged(FakeTarget("a", [asyncio.Event()], list(HELLO)))
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", "cancelled"), (2, "a", "ok")]


async def test_nobody_else_is_asked_once_something_was_shown() -> None:
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(5 * SOON, late.set)
    other = FakeTarget("b", *HELLO)
    ran = await hedged(FakeTarget("a", ReasoningDelta("hm"), late, *HELLO), other)
    assert (ran.outcomes, other.asked) == ([(1, "a", "ok")], 0)


async def test_a_failure_in_time_is_like_any_other() -> None:
    ran = await hedged(failing("a", "auth"), FakeTarget("b", *HELLO), after=5)
    assert (ran.chunks, ran.outcomes) == (list(HELLO), [(1, "a", "auth"), (2, "b", "ok")])


@pytest.mark.parametrize("first", [True, False])
async def test_one_that_fails_leaves_the_other_to_answer(first: bool) -> None:
    go, failed = asyncio.Event(), asyncio.Event()

    slow: tuple[Step, ...] = (failed, *HELLO)
    if first:
        ran = await hedged(
            Ending(failed, "a", go, fault("overloaded")), Signal(go, "b", *slow), FakeTarget("c", *OTHER)
        )
        assert ran.outcomes == [(1, "a", "overloaded"), (2, "b", "ok")]
        assert sorted(ran.gate.told) == [("a", "counts"), ("b", "succeeded")]
    else:
        ran = await hedged(FakeTarget("a", *slow), Ending(failed, "b", fault("auth")), FakeTarget("c", *OTHER))
        assert ran.outcomes == [(1, "a", "ok"), (2, "b", "auth")]
        assert sorted(ran.gate.told) == [("a", "succeeded"), ("b", "opens")]
    assert ran.chunks == list(HELLO)


async def test_where_both_fail_the_others_are_asked() -> None:
    go = asyncio.Event()

    ran = await hedged(FakeTarget("a", go, fault("auth")), Signal(go, "b", fault("auth")), FakeTarget("c", *HELLO))
    assert ran.chunks == list(HELLO)
    assert ran.outcomes == [(1, "a", "auth"), (2, "b", "auth"), (3, "c", "ok")]

    go.clear()
    ran = await hedged(FakeTarget("a", go, fault("auth")), Signal(go, "b", fault("permission")))
    assert isinstance(ran.failure, ProvidersUnavailable)
    assert sorted(e.kind for e in ran.failure.attempts) == ["auth", "permission"]


async def test_a_refused_request_ends_both() -> None:
    ran = await hedged(FakeTarget("a", asyncio.Event()), failing("b", "bad_request"), FakeTarget("c", *HELLO))
    assert type(ran.failure) is ProviderError
    assert ran.failure.kind == "bad_request"
    assert ran.outcomes == [(1, "a", "cancelled"), (2, "b", "bad_request")]
    assert sorted(ran.gate.told) == [("a", "abandoned"), ("b", "abandoned")]


async def test_a_winner_that_breaks_is_followed_by_the_next() -> None:
    broken = FakeTarget("b", TextDelta("good"), fault("auth"))
    ran = await hedged(FakeTarget("a", asyncio.Event()), broken, FakeTarget("c", *HELLO))
    assert ran.chunks == [TextDelta("good"), Restarted(), *HELLO]
    assert ran.outcomes == [(1, "a", "cancelled"), (2, "b", "auth"), (3, "c", "ok")]


async def test_a_loser_is_the_next_where_the_winner_breaks() -> None:
    go = asyncio.Event()

    first = FakeTarget("a", go, TextDelta("hel"), fault("auth"))
    ran = await hedged(first, Signal(go, "b", [asyncio.Event()], list(OTHER)))
    assert ran.chunks == [TextDelta("hel"), Restarted(), *OTHER]
    assert ran.outcomes == [(1, "a", "auth"), (2, "b", "cancelled"), (3, "b", "ok")]


async def test_an_open_breaker_is_not_asked_beside() -> None:
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(5 * SOON, late.set)
    ran = await hedged(FakeTarget("a", late, *HELLO), FakeTarget("b", *HELLO), gate=Gate("b"))
    assert ran.outcomes == [(1, "a", "ok")]


async def test_one_that_could_not_be_asked_beside_is_asked_later() -> None:
    class Opening(Gate):
        async def admit(self, provider: str, model: str) -> Permit | None:
            admitted = await super().admit(provider, model)
            if admitted is None:
                self.shut.clear()
                late.set()
            return admitted

    late = asyncio.Event()
    ran = await hedged(FakeTarget("a", late, fault("auth")), FakeTarget("b", *HELLO), gate=Opening("b"))
    assert ran.outcomes == [(1, "a", "auth"), (2, "b", "ok")]


async def test_a_stop_ends_both() -> None:
    targets = (FakeTarget("a", asyncio.Event()), FakeTarget("b", asyncio.Event()))
    gate, recorder = Gate(), Recorder()
    router = router_of(Route(targets=targets, hedge_after=SOON), gate)
    for _ in range(SHARE):
        router._allowances["default"].called()
    task = asyncio.create_task(collect(router.stream(REQUEST, recorder)))
    await until(lambda: targets[1].asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(recorder) == [(1, "a", "cancelled"), (2, "b", "cancelled")]
    assert sorted(gate.told) == [("a", "abandoned"), ("b", "abandoned")]
    assert [target.closed for target in targets] == [1, 1]


async def test_no_more_than_one_call_in_twenty_is_hedged() -> None:
    """Every call's first target is silent until the second was asked, or would have been."""
    second = FakeTarget("b", *OTHER)
    calls = 5 * SHARE
    late = [asyncio.Event() for _ in range(calls)]
    tries: list[list[Step]] = [[event, *HELLO] for event in late]
    first = FakeTarget("a", *tries)
    router, gate = router_of(Route(targets=(first, second), hedge_after=0.001)), Gate()
    for event in late:
        asyncio.get_running_loop().call_later(0.02, event.set)
        await call(router._routes["default"], gate, router=router)
    assert second.asked == calls // SHARE


async def test_off_by_default() -> None:
    late, second = asyncio.Event(), FakeTarget("b", *OTHER)
    router = router_of(Route(targets=(FakeTarget("a", late, *HELLO), second)))
    for _ in range(SHARE):
        router._allowances["default"].called()
    asyncio.get_running_loop().call_later(0.02, late.set)
    await collect(router.stream(REQUEST, Recorder()))
    assert second.asked == 0


def test_the_allowance_saves_up_nothing() -> None:
    allowance = Allowance()
    for _ in range(10 * SHARE):
        allowance.called()
    assert allowance.there
    allowance.take()
    for _ in range(SHARE - 1):
        allowance.called()
        assert not allowance.there
    allowance.called()
    assert allowance.there
