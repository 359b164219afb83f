"""What the router asks, scripted: targets that play steps, breakers that keep what they are told, and a run of both."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from app.domain.errors import FailureKind, ProviderError
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, Recorder, TextDelta
from app.llm.gatekeeper import Permit
from app.llm.router import Route, Router
from app.llm.taxonomy import Effect
from tests.llm.messages import REQUEST

DONE = Completed(content="hello", stop="stop")
HELLO = (TextDelta("hel"), TextDelta("lo"), DONE)
Step = ModelChunk | ProviderError | asyncio.Event


class FakeTarget:
    """Plays its steps: chunks are given out, errors raised, events waited for. Steps in a list are one try each, the last one again and again."""

    def __init__(self, name: str, *steps: Step | list[Step], model: str = "m") -> None:
        self.provider = name
        self.system = "openai"
        self.model = model
        tries = [step for step in steps if isinstance(step, list)]
        self.tries = tries or [[step for step in steps if not isinstance(step, list)]]
        self.asked = 0
        self.closed = 0

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        steps = self.tries[min(self.asked, len(self.tries) - 1)]
        self.asked += 1
        try:
            for step in steps:
                if isinstance(step, ProviderError):
                    step.provider, step.model = self.provider, self.model
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


def fault(kind: FailureKind, hint: float | None = None, advice: bool | None = None) -> ProviderError:
    return ProviderError(kind, "no", retry_after=hint, should_retry=advice)


def failing(name: str, kind: FailureKind, *before: Step, model: str = "m") -> FakeTarget:
    return FakeTarget(name, *before, fault(kind), model=model)


class Gate:
    """Breakers that are closed but for those of `shut` providers. `told` is every verdict, `out` who was admitted and not judged."""

    def __init__(self, *shut: str) -> None:
        self.shut = set(shut)
        self.told: list[tuple[str, str]] = []
        self.hints: list[float | None] = []
        self.out: Counter[str] = Counter()

    async def admit(self, provider: str, model: str) -> Permit | None:
        if provider in self.shut:
            return None
        self.out[provider] += 1
        return Admission(self, provider)

    def ended(self, provider: str, verdict: str) -> None:
        self.out[provider] -= 1
        assert self.out[provider] >= 0, "one verdict for one admission"
        self.told.append((provider, verdict))


class Admission:
    """What a `Gate` gives out."""

    def __init__(self, gate: Gate, provider: str) -> None:
        self._gate = gate
        self._provider = provider

    def succeeded(self) -> None:
        self._gate.ended(self._provider, "succeeded")

    def failed(self, effect: Effect, retry_after: float | None) -> None:
        self._gate.hints.append(retry_after)
        self._gate.ended(self._provider, effect)

    def abandoned(self) -> None:
        self._gate.ended(self._provider, "abandoned")


class Ran:
    """One call: what was given out and recorded, how it failed, and the pauses on the way."""

    def __init__(self) -> None:
        self.chunks: list[ModelChunk] = []
        self.recorder = Recorder()
        self.failure: ProviderError | None = None
        self.pauses: list[float] = []
        self.gate = Gate()

    @property
    def outcomes(self) -> list[tuple[int, str, str | None]]:
        return outcomes(self.recorder)


def router_of(
    route: Route,
    gate: Gate | None = None,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    part: float = 1.0,
) -> Router:
    """A router with that route as `default`, whose pauses are that part of the longest ones."""
    return Router(routes={"default": route}, breakers=gate or Gate(), random=lambda: part, sleep=sleep)


async def call(
    route: Route,
    gate: Gate | None = None,
    *,
    part: float = 1.0,
    request: ModelRequest = REQUEST,
    router: Router | None = None,
) -> Ran:
    """Ask once. Nobody waits for a pause; afterwards nothing is open, and every admission has its verdict."""
    ran = Ran()
    ran.gate = gate or ran.gate

    async def sleep(seconds: float) -> None:
        ran.pauses.append(seconds)

    router = router or router_of(route, ran.gate, sleep=sleep, part=part)
    try:
        async for chunk in router.stream(request, ran.recorder):
            ran.chunks.append(chunk)
    except ProviderError as failure:
        ran.failure = failure
    assert all(attempt.ended is not None for attempt in ran.recorder.attempts)
    assert not any(ran.gate.out.values())
    return ran


async def run(
    *targets: FakeTarget, timeout: float = 60, first: float = 5, idle: float = 5, gate: Gate | None = None
) -> Ran:
    """Ask these, one after the other. Every target that was asked is closed."""
    ran = await call(Route(targets=targets, timeout=timeout, first_token_timeout=first, idle_timeout=idle), gate)
    assert all(target.asked == target.closed for target in targets)
    return ran


def outcomes(recorder: Recorder) -> list[tuple[int, str, str | None]]:
    return [(attempt.number, attempt.provider, attempt.outcome) for attempt in recorder.attempts]


def texts(chunks: Sequence[ModelChunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))
