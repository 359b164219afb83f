"""Routes: which models answer a request, in which order, and for how long they are waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec

from app.domain.errors import FailureKind, ProviderError, ProvidersUnavailable
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, ReasoningDelta, Recorder, Target, TextDelta
from app.llm.stopwatch import Stopwatch


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Targets in the order they are asked. Seconds: `timeout` for all attempts together, `first_token_timeout` until a model
    begins to write, `idle_timeout` between two signs of life."""

    targets: tuple[Target, ...]
    timeout: float = 60.0
    first_token_timeout: float = 20.0
    idle_timeout: float = 30.0


class Router:
    """A `Provider` over named routes."""

    def __init__(self, *, routes: Mapping[str, Route]) -> None:
        self._routes = routes

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        """Answer from the first target of `request.route` that can.

        Raises the failure itself where the request is refused or text was already shown, else ProvidersUnavailable.
        The first chunk is awaited inside its attempt, so an attempt that fails before it leaves no trace in the stream
        but its readable reasoning. Raises KeyError for a route that does not exist.
        """
        route = self._routes[request.route]
        watch = Stopwatch()
        deadline = watch.time() + route.timeout
        failures: list[ProviderError] = []
        try:
            for target in route.targets:
                shown = False
                attempt = recorder.open(target.provider, target.model, time.monotonic())
                try:
                    async with aclosing(_attempt(route, target, request, attempt, watch, deadline)) as chunks:
                        async for chunk in chunks:
                            shown = shown or type(chunk) is TextDelta
                            yield chunk
                    return
                except ProviderError as failure:
                    if shown or failure.refuses_request:
                        raise
                    failures.append(failure)  # the fallback: the next target is asked
                    if watch.time() >= deadline:
                        break
        finally:
            watch.stop()
        raise ProvidersUnavailable(request.route, failures)


async def _attempt(
    route: Route, target: Target, request: ModelRequest, attempt: Attempt, watch: Stopwatch, deadline: float
) -> AsyncGenerator[ModelChunk, None]:
    """One target's answer within its times; `attempt` says afterwards how it ended.

    Chunks that show nothing stay here: they are a sign of life for the timeouts, but not the attempt's first token.
    """
    patience = route.first_token_timeout
    kind: FailureKind = "first_token_timeout"
    try:
        async with aclosing(target.stream(request, attempt)) as chunks:
            while True:
                limit = min(watch.time() + patience, deadline)
                try:
                    chunk = await watch.next(chunks, limit)
                except TimeoutError as error:
                    raise _timeout("total_timeout" if limit == deadline else kind, route, target) from error
                if chunk is None:
                    raise ProviderError(
                        "stream_broken", "the answer never ended", provider=target.provider, model=target.model
                    )
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
        attempt.outcome = failure.kind
        raise
    except (asyncio.CancelledError, GeneratorExit):
        attempt.outcome = attempt.outcome or "cancelled"
        raise
    finally:
        attempt.ended = attempt.ended or time.monotonic()


def _timeout(kind: FailureKind, route: Route, target: Target) -> ProviderError:
    seconds = {
        "total_timeout": route.timeout,
        "first_token_timeout": route.first_token_timeout,
        "idle_timeout": route.idle_timeout,
    }[kind]
    return ProviderError(
        kind, f"{kind.replace('_', ' ')} of {seconds:g} s", provider=target.provider, model=target.model
    )
