"""Which target answers, for how long it is waited for, and what is written down about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import pytest

from app.domain.errors import FailureKind, ProviderError, ProvidersUnavailable
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, ReasoningDelta, Recorder, TextDelta
from app.llm.router import Route, Router
from app.llm.stopwatch import Stopwatch
from tests.llm.messages import REQUEST
from tests.llm.wire import collect, whole

DONE = Completed(content="hello", stop="stop")
HELLO = (TextDelta("hel"), TextDelta("lo"), DONE)
Step = ModelChunk | ProviderError | asyncio.Event


class FakeTarget:
    """Plays its steps: chunks are given out, errors raised, events waited for."""

    def __init__(self, name: str, *steps: Step) -> None:
        self.provider = name
        self.system = "openai"
        self.model = "m"
        self.steps = steps
        self.asked = 0
        self.closed = 0

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        self.asked += 1
        try:
            for step in self.steps:
                if isinstance(step, ProviderError):
                    step.provider, step.model = self.provider, self.model
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


def failing(name: str, kind: FailureKind, *before: Step) -> FakeTarget:
    return FakeTarget(name, *before, ProviderError(kind, "no"))


async def run(
    *targets: FakeTarget, timeout: float = 5, first: float = 5, idle: float = 5
) -> tuple[list[ModelChunk], Recorder, ProviderError | None]:
    """What was given out, what was recorded, and how it failed. Every target that was asked is closed."""
    route = Route(targets=targets, timeout=timeout, first_token_timeout=first, idle_timeout=idle)
    recorder = Recorder()
    chunks: list[ModelChunk] = []
    failure = None
    stream = Router(routes={"default": route}).stream(REQUEST, recorder)
    try:
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - what came before an error counts
    except ProviderError as error:
        failure = error
    assert all(target.asked == target.closed for target in targets)
    assert all(attempt.ended is not None for attempt in recorder.attempts)
    return chunks, recorder, failure


def outcomes(recorder: Recorder) -> list[tuple[int, str, str | None]]:
    return [(attempt.number, attempt.provider, attempt.outcome) for attempt in recorder.attempts]


async def test_the_first_target_that_can_answers() -> None:
    chunks, recorder, failure = await run(FakeTarget("a", *HELLO), FakeTarget("b", *HELLO))
    assert failure is None
    assert whole(chunks) is DONE
    assert outcomes(recorder) == [(1, "a", "ok")]
    (attempt,) = recorder.attempts
    assert attempt.first_token is not None
    assert attempt.ended is not None
    assert attempt.started <= attempt.first_token <= attempt.ended <= time.monotonic()


FALLBACK: Sequence[FailureKind] = (
    "connect",
    "connect_timeout",
    "rate_limited",
    "quota",
    "auth",
    "unknown_model",
    "overloaded",
    "server_error",
    "stream_broken",
    "stream_error",
)


@pytest.mark.parametrize("kind", FALLBACK)
async def test_every_failure_but_a_refused_request_falls_back(kind: FailureKind) -> None:
    chunks, recorder, failure = await run(failing("a", kind), failing("b", kind), FakeTarget("c", *HELLO))
    assert failure is None
    assert chunks == list(HELLO)
    assert outcomes(recorder) == [(1, "a", kind), (2, "b", kind), (3, "c", "ok")]


async def test_a_refused_request_is_not_asked_again() -> None:
    chunks, recorder, failure = await run(
        failing("a", "overloaded"), failing("b", "bad_request"), FakeTarget("c", *HELLO)
    )
    assert type(failure) is ProviderError
    assert (failure.kind, failure.provider) == ("bad_request", "b")
    assert chunks == []
    assert outcomes(recorder) == [(1, "a", "overloaded"), (2, "b", "bad_request")]


async def test_nothing_falls_back_once_text_was_shown() -> None:
    first = failing("a", "overloaded", TextDelta("hel"))
    chunks, recorder, failure = await run(first, FakeTarget("b", *HELLO))
    assert type(failure) is ProviderError
    assert failure.kind == "overloaded"
    assert chunks == [TextDelta("hel")]
    assert outcomes(recorder) == [(1, "a", "overloaded")]


async def test_reasoning_and_signs_of_life_are_no_text() -> None:
    first = failing("a", "stream_broken", ReasoningDelta("hm"), ReasoningDelta(""))
    chunks, recorder, failure = await run(first, FakeTarget("b", *HELLO))
    assert failure is None
    assert chunks == [ReasoningDelta("hm"), *HELLO]
    assert recorder.attempts[0].first_token is not None


async def test_the_first_token_is_the_first_that_is_shown() -> None:
    """A sign of life alone keeps the first token's timeout away, and is no token."""
    busy = FakeTarget("a", ReasoningDelta(""), asyncio.Event())
    _, recorder, failure = await run(busy, FakeTarget("b", ReasoningDelta(""), DONE), first=0.02, idle=0.03)
    assert failure is None
    assert outcomes(recorder) == [(1, "a", "idle_timeout"), (2, "b", "ok")]
    silent, calls = recorder.attempts
    assert silent.first_token is None
    assert calls.first_token is not None


async def test_all_targets_failed() -> None:
    chunks, _, failure = await run(failing("a", "overloaded"), failing("b", "connect"))
    assert isinstance(failure, ProvidersUnavailable)
    assert chunks == []
    assert [(e.provider, e.kind) for e in failure.attempts] == [("a", "overloaded"), ("b", "connect")]
    assert failure.route == "default"


async def test_a_target_that_never_ends_its_answer_has_broken_it() -> None:
    _, recorder, failure = await run(FakeTarget("a", ReasoningDelta("hm")), FakeTarget("b"))
    assert isinstance(failure, ProvidersUnavailable)
    assert outcomes(recorder) == [(1, "a", "stream_broken"), (2, "b", "stream_broken")]


async def test_first_token_timeout() -> None:
    slow = FakeTarget("a", asyncio.Event(), *HELLO)
    chunks, recorder, failure = await run(slow, FakeTarget("b", *HELLO), first=0.02)
    assert failure is None
    assert chunks == list(HELLO)
    assert outcomes(recorder) == [(1, "a", "first_token_timeout"), (2, "b", "ok")]


async def test_idle_timeout_before_text_falls_back_and_after_it_does_not() -> None:
    silent = FakeTarget("a", ReasoningDelta(""), asyncio.Event())
    chunks, recorder, failure = await run(silent, FakeTarget("b", *HELLO), idle=0.02)
    assert failure is None
    assert outcomes(recorder) == [(1, "a", "idle_timeout"), (2, "b", "ok")]

    silent = FakeTarget("a", TextDelta("hel"), asyncio.Event())
    chunks, recorder, failure = await run(silent, FakeTarget("b", *HELLO), idle=0.02)
    assert failure is not None
    assert failure.kind == "idle_timeout"
    assert "0.02" in str(failure)
    assert chunks == [TextDelta("hel")]
    assert outcomes(recorder) == [(1, "a", "idle_timeout")]


async def test_all_attempts_share_one_deadline() -> None:
    targets = [FakeTarget(name, asyncio.Event()) for name in "abc"]
    _, recorder, failure = await run(*targets, first=0.04, timeout=0.06)
    assert isinstance(failure, ProvidersUnavailable)
    assert failure.kind == "total_timeout"
    assert outcomes(recorder) == [(1, "a", "first_token_timeout"), (2, "b", "total_timeout")]


async def test_the_deadline_also_ends_an_answer_that_keeps_coming() -> None:
    class Endless(FakeTarget):
        async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
            while True:
                await asyncio.sleep(0)
                yield ReasoningDelta("hm")

    _, recorder, failure = await run(Endless("a"), timeout=0.03)
    assert failure is not None
    assert failure.kind == "total_timeout"
    assert recorder.attempts[0].outcome == "total_timeout"


async def test_a_slow_consumer_uses_none_of_the_target_s_patience() -> None:
    route = Route(targets=(FakeTarget("a", *HELLO),), first_token_timeout=0.02, idle_timeout=0.02)
    stream = Router(routes={"default": route}).stream(REQUEST, Recorder())
    assert await anext(stream) == TextDelta("hel")
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.06, later.set)
    await later.wait()
    assert await collect(stream) == [TextDelta("lo"), DONE]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_whoever_stops_early_leaves_nothing_open(after: int) -> None:
    target = FakeTarget("a", *HELLO)
    recorder = Recorder()
    stream = Router(routes={"default": Route(targets=(target,))}).stream(REQUEST, recorder)
    for _ in range(after):
        await anext(stream)
    await stream.aclose()
    assert target.closed == target.asked == min(after, 1)
    assert [a.outcome for a in recorder.attempts] == {0: [], 3: ["ok"]}.get(after, ["cancelled"])


async def test_a_cancellation_is_never_taken_for_a_timeout() -> None:
    target = FakeTarget("a", asyncio.Event())
    recorder = Recorder()
    router = Router(routes={"default": Route(targets=(target, FakeTarget("b", *HELLO)), first_token_timeout=0.03)})
    task = asyncio.create_task(collect(router.stream(REQUEST, recorder)))
    await asyncio.sleep(0)  # it now waits for the target
    assert target.asked == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(recorder) == [(1, "a", "cancelled")]
    assert target.closed == 1


async def test_a_timeout_leaves_the_task_uncancelled() -> None:
    async def wait() -> int:
        _, _, failure = await run(FakeTarget("a", asyncio.Event()), first=0.01)
        assert failure is not None
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

    recorder = Recorder()
    router = Router(routes={"default": Route(targets=(Faulty("a"), FakeTarget("b", *HELLO)))})
    with pytest.raises(ZeroDivisionError):
        await collect(router.stream(REQUEST, recorder))
    assert outcomes(recorder) == [(1, "a", None)]


async def test_a_route_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        await collect(Router(routes={}).stream(REQUEST, Recorder()))


class TestStopwatch:
    async def test_the_end_is_none(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 1) == 1
        assert await watch.next(numbers, watch.time() + 1) is None
        watch.stop()

    async def test_a_later_limit_counts_although_the_timer_was_set_for_an_earlier_one(self) -> None:
        go = asyncio.Event()

        async def items() -> AsyncGenerator[int, None]:
            yield 1
            await go.wait()
            yield 2

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 0.02) == 1
        asyncio.get_running_loop().call_later(0.06, go.set)
        assert await watch.next(numbers, watch.time() + 5) == 2
        watch.stop()
        await numbers.aclose()

    async def test_an_earlier_limit_counts_although_the_timer_was_set_for_a_later_one(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            await asyncio.Event().wait()

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 60) == 1
        with pytest.raises(TimeoutError):
            await watch.next(numbers, watch.time() + 0.01)
        watch.stop()

    async def test_a_cancellation_at_the_same_moment_wins(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            await asyncio.Event().wait()
            yield 1

        async def wait() -> None:
            watch, numbers = Stopwatch(), items()
            task = asyncio.current_task()
            assert task is not None
            limit = watch.time() + 0.01
            asyncio.get_running_loop().call_at(limit, task.cancel)
            await watch.next(numbers, limit)

        task = asyncio.create_task(wait())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1
