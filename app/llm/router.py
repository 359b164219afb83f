"""Routes: which models answer a request, in which order, and for how long they are waited for.

What follows from a failure is in `taxonomy`, who is asked next in `course`; here is how it is done.
"""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Literal

import msgspec

from app.domain.errors import FailureKind, ProviderError, ProvidersUnavailable
from app.domain.models import (
    Completed,
    ModelChunk,
    ModelRequest,
    ReasoningDelta,
    Recorder,
    Restarted,
    Target,
    TextDelta,
)
from app.llm.course import Alternative, Course, order
from app.llm.gatekeeper import Gatekeeper
from app.llm.hedging import Allowance, Lane, race
from app.llm.opening import begin
from app.llm.stopwatch import Stopwatch
from app.llm.taxonomy import LONGEST_HINT, POLICIES


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order they are asked; where alternatives share a place, the request's affinity decides (see `course.order`).

    Seconds: `timeout` for all attempts together, `first_token_timeout` until a model begins to write, `idle_timeout` between two
    signs of life, `hedge_after` until a second target is asked beside the first that has not begun, 0: never.
    `windows`: tokens that targets can read, by name. `on_midstream`: what a failure after the first text leads to, an answer that
    begins anew or the error.
    """

    targets: tuple[Target | tuple[Alternative, ...], ...]
    timeout: float = 60.0
    first_token_timeout: float = 20.0
    idle_timeout: float = 30.0
    hedge_after: float = 0.0
    windows: Mapping[str, int] = {}
    on_midstream: Literal["reset", "error"] = "reset"


class _Call(msgspec.Struct):
    """One request on its way. `deadline` is loop time; what an attempt waits for the ledger is not held against the targets."""

    route: Route
    request: ModelRequest
    recorder: Recorder
    deadline: float
    course: Course
    allowance: Allowance


class Router:
    """A `Provider` over named routes. `random` gives numbers from 0 to 1, `sleep` waits for seconds: those of the backoff."""

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        breakers: Gatekeeper,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._routes = routes
        self._breakers = breakers
        self._random = random
        self._sleep = sleep
        self._allowances = {name: Allowance() for name in routes}

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        """Answer from the first target of `request.route` that can, each asked as often as the taxonomy allows.

        Raises the failure itself where it must not be tried again, else ProvidersUnavailable once nobody is left or the time is
        over. The first chunk is awaited inside its attempt, so an attempt that fails before it leaves no trace in the stream
        but its readable reasoning; one that fails after its first text is followed by `Restarted`, as soon as the next begins.
        Raises BudgetExhausted where the next attempt costs more than there is left, KeyError for a route that does not exist.
        """
        route = self._routes[request.route]
        loop = asyncio.get_running_loop()
        course = Course(targets=order(route.targets, request.affinity), windows=route.windows, random=self._random)
        allowance = self._allowances[request.route]
        call = _Call(route, request, recorder, loop.time() + route.timeout, course, allowance)
        allowance.called()
        shown = False
        while (target := course.target) is not None:
            permit = await self._breakers.admit(target.provider, target.model)
            if permit is None:
                course.skip()
                continue
            lanes = [Lane(target, permit)]
            answer, shown = self._answer(call, lanes, restart=shown), False
            try:
                async with aclosing(answer) as chunks:
                    async for chunk in chunks:
                        if type(chunk) is TextDelta:
                            shown = True
                        yield chunk
                return
            except ProviderError as failure:
                if shown and route.on_midstream == "error":
                    raise
                pause = course.failed(failure, call.deadline - loop.time())
                if pause is None:
                    raise
            finally:
                for lane in lanes:
                    _judge(lane)
            if pause:
                await self._sleep(pause)
        raise ProvidersUnavailable(request.route, course.failures)

    def _answer(self, call: _Call, lanes: list[Lane], *, restart: bool) -> AsyncGenerator[ModelChunk, None]:
        """The answer of the one lane, or of another that was opened beside it and was faster; `lanes` has both then."""
        (lane,) = lanes
        lane.chunks = self._attempt(call, lane, restart=restart)
        if restart or not call.route.hedge_after or not call.allowance.there:
            return lane.chunks
        return self._hedged(call, lanes)

    async def _hedged(self, call: _Call, lanes: list[Lane]) -> AsyncGenerator[ModelChunk, None]:
        course = call.course

        async def second() -> Lane | None:
            target = course.beside() if call.allowance.there else None
            if target is None:
                return None
            permit = await self._breakers.admit(target.provider, target.model)
            if permit is None:
                course.put_back(target)
                return None
            call.allowance.take()
            lane = Lane(target, permit)
            lane.chunks = self._attempt(call, lane, restart=False)
            lanes.append(lane)
            return lane

        raced = await race(lanes[0], second, after=call.route.hedge_after)
        async with aclosing(raced.lane.chunks) as chunks:
            for lane in raced.others:
                _judge(lane)
                if lane.failure is not None:
                    course.note(lane.failure)
                elif lane is not lanes[0]:
                    course.put_back(lane.target)
            course.turn_to(raced.lane.target)
            if raced.chunk is None:
                ended = raced.lane.failure or raced.lane.refusal
                assert ended is not None
                raise ended
            yield raced.chunk
            async for chunk in chunks:
                yield chunk

    async def _attempt(self, call: _Call, lane: Lane, *, restart: bool) -> AsyncGenerator[ModelChunk, None]:
        """The answer of the lane's target, which was admitted, within its times; `lane` says afterwards how it ended.

        Chunks that show nothing stay here: they are a sign of life for the timeouts, but not the attempt's first token.
        """
        route, target, attempt, watch = call.route, lane.target, None, Stopwatch()
        patience = route.first_token_timeout
        kind: FailureKind = "first_token_timeout"
        try:
            if restart:
                yield Restarted()
            loop = asyncio.get_running_loop()
            asked = loop.time()
            attempt, request = await begin(call.recorder, target.provider, target.model, call.request, time.monotonic())
            lane.attempt, attempt.started = attempt, time.monotonic()
            call.deadline += loop.time() - asked
            async with aclosing(target.stream(request, attempt)) as chunks:
                while True:
                    limit = min(watch.time() + patience, call.deadline)
                    try:
                        chunk = await watch.next(chunks, limit)
                    except TimeoutError as error:
                        raise _timeout("total_timeout" if limit == call.deadline else kind, route, target) from error
                    if chunk is None:
                        raise _failure("stream_broken", "the answer never ended", target)
                    patience, kind = route.idle_timeout, "idle_timeout"
                    if type(chunk) is ReasoningDelta and not chunk.text:
                        continue
                    if attempt.first_token is None:
                        attempt.first_token = time.monotonic()
                    if type(chunk) is Completed:
                        attempt.outcome = "ok"
                        attempt.ended = time.monotonic()
                        yield chunk
                        return
                    yield chunk
        except ProviderError as failure:
            lane.failure = failure
            if attempt is not None:
                attempt.outcome = failure.kind
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if attempt is not None:
                attempt.outcome = attempt.outcome or "cancelled"
            raise
        finally:
            watch.stop()
            if attempt is not None:
                attempt.ended = attempt.ended or time.monotonic()


def _judge(lane: Lane) -> None:
    """The target's breaker has the verdict on that attempt. Once."""
    if lane.judged:
        return
    lane.judged = True
    failure = lane.failure
    if lane.attempt is not None and lane.attempt.outcome == "ok":
        lane.permit.succeeded()
    elif failure is not None and (effect := POLICIES[failure.kind].breaker) is not None:
        hint = failure.retry_after
        lane.permit.failed("opens" if (hint or 0.0) > LONGEST_HINT else effect, hint)
    else:
        lane.permit.abandoned()


def _timeout(kind: FailureKind, route: Route, target: Target) -> ProviderError:
    seconds = {
        "total_timeout": route.timeout,
        "first_token_timeout": route.first_token_timeout,
        "idle_timeout": route.idle_timeout,
    }[kind]
    return _failure(kind, f"{kind.replace('_', ' ')} of {seconds:g} s", target)


def _failure(kind: FailureKind, message: str, target: Target) -> ProviderError:
    return ProviderError(kind, message, provider=target.provider, model=target.model)
