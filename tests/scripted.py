"""Scripted stand-ins for the Protocols around a run: a model that says what the test says, tools that it gates."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

import msgspec

from app.domain.errors import ProviderError
from app.domain.events import RunFinished, RunWaiting
from app.domain.messages import JsonObject, ModelStop, Native, ToolCall, Usage
from app.domain.models import Completed, ModelChunk, ModelRequest, ReasoningDelta, Recorder, TextDelta
from app.domain.observers import EndedRun, RunInfo, RunTimes
from app.domain.prices import Price
from app.domain.tiers import TierDecision
from app.domain.tools import ToolContext, ToolResult, ToolSpec
from app.llm.opening import begin

Say = Sequence[ModelChunk | Exception | asyncio.Event]
Script = Callable[[ModelRequest], Say]


def says(
    text: str = "",
    *calls: tuple[str, str, str],
    stop: ModelStop | None = None,
    native: Native | None = None,
    pieces: int = 1,
) -> list[ModelChunk]:
    """A whole answer: its text in `pieces`, then calls as (id, name, arguments)."""
    size = max(1, -(-len(text) // pieces))
    chunks: list[ModelChunk] = [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
    made = tuple(ToolCall(*call) for call in calls)
    reason: ModelStop = stop or ("tool_calls" if made else "stop")
    usage = Usage(input_tokens=10, output_tokens=5)
    return [*chunks, Completed(content=text, tool_calls=made, stop=reason, native=native, usage=usage)]


class Quoted:
    """`Quotes` of a fixed price for everything; None: nobody knows one."""

    def __init__(self, price: Price | None = None, least: Decimal = Decimal(0)) -> None:
        self.known = price
        self._least = least

    async def price(self, provider: str, model: str) -> Price | None:
        return self.known

    async def least(self, route: str, input_tokens: int) -> Decimal | None:
        return None if self.known is None else self._least


class ScriptedProvider:
    """Answers the n-th request with the n-th script; an Event in a script is waited for. Keeps every request, as it may be sent.

    With a `price` its attempts cost what their usage says; a call is said to cost `least` at least.
    """

    def __init__(self, *answers: Say | Script, price: Price | None = None, least: Decimal = Decimal(0)) -> None:
        self.price = price
        self.least = least
        self.answers = list(answers)
        self.requests: list[ModelRequest] = []
        self.closed = 0

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        attempt, request = await begin(recorder, "scripted", "model", request, time.monotonic())
        number = len(self.requests)
        self.requests.append(request)
        answer = self.answers[number]
        try:
            for piece in answer(request) if callable(answer) else answer:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, Exception):
                    attempt.outcome = piece.kind if isinstance(piece, ProviderError) else "server_error"
                    raise piece
                else:
                    if isinstance(piece, Completed):
                        attempt.usage, attempt.outcome, attempt.finish = piece.usage, "ok", piece.stop
                        attempt.basis = "provider"
                    elif isinstance(piece, TextDelta | ReasoningDelta) and attempt.first_token is None:
                        attempt.first_token = time.monotonic()
                    yield piece
        finally:
            attempt.ended = time.monotonic()
            if self.price is not None and attempt.usage is not None and (parts := attempt.usage.parts()) is not None:
                attempt.cost_usd = self.price.cost(parts)
            self.closed += 1


class ScriptedToolbox:
    """Tools `echo` (gives its arguments back) and `slow` (waits for `gate`)."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls: list[ToolCall] = []
        self.contexts: dict[str, ToolContext] = {}
        self.started = asyncio.Event()

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        return tuple(tool_spec(name) for name in names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        self.calls.append(call)
        self.contexts[call.id] = context
        if spec is None:
            return ToolResult(call_id=call.id, name=call.name, status="error", result=_raw("no such tool"))
        if call.name.startswith("slow"):
            self.started.set()
            await context.emit("waiting", {"for": "the gate"})
            await self.gate.wait()
        return ToolResult(call_id=call.id, name=call.name, status="ok", result=msgspec.Raw(call.arguments.encode()))


class NoHints:
    """A process that has nobody to tell."""

    def queued(self) -> None:
        pass

    def wrote(self, run_id: str) -> None:
        pass

    def posted(self, run_id: str) -> None:
        pass

    def dropped(self, labels: Sequence[str]) -> None:
        pass


class Counts(Counter[tuple[str, str]]):
    """Look-ups of a cache, by level and result."""

    def count(self, level: str, result: str) -> None:
        self[level, result] += 1


class KeptState:
    """A session's state in memory."""

    def __init__(self) -> None:
        self.state: JsonObject = {}

    async def get(self) -> JsonObject:
        return self.state

    async def update(self, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
        self.state = change(self.state)
        return self.state


def tool_spec(name: str, **more: object) -> ToolSpec:
    """A harmless tool, which says nobody else's words."""
    harmless = {
        "description": name,
        "schema": {"type": "object"},
        "risk": "low",
        "effect": "read",
        "returns": "trusted",
    }
    fields = harmless | more
    return msgspec.convert({"name": name} | fields, ToolSpec)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))


class Notes:
    """A `RunObserver` that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[RunInfo] = []
        self.ends: list[RunFinished] = []
        self.faults: list[BaseException] = []
        self.never_began: list[tuple[str, RunFinished]] = []
        self.refused_writes = 0
        self.denials: list[str] = []
        self.guards: list[tuple[str, str]] = []
        self.stops: list[float] = []
        self.waits: list[RunWaiting] = []
        self.handed_on = 0
        self.recoveries = 0
        self.shadows: list[tuple[str, str]] = []
        self.tiers: list[TierDecision] = []
        self.decisions: list[tuple[str, str]] = []
        self.pending: list[tuple[int, float]] = []

    def traceparent(self) -> str | None:
        return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @contextmanager
    def running(self, info: RunInfo) -> Iterator[Notes]:
        self.begun.append(info)
        yield self

    def finished(self, event: RunFinished, response_model: str | None, times: RunTimes) -> None:
        assert 0 <= times.effects <= times.total
        self.ends.append(event)

    def waiting(self, event: RunWaiting, times: RunTimes) -> None:
        self.waits.append(event)

    def left(self) -> None:
        self.handed_on += 1

    def recovered(self) -> None:
        self.recoveries += 1

    def failed(self, error: BaseException) -> None:
        self.faults.append(error)

    def unstarted(self, run: EndedRun, event: RunFinished) -> None:
        self.never_began.append((run.agent, event))

    def tiered(self, decision: TierDecision) -> None:
        self.tiers.append(decision)

    def shadowed(self, experiment: str, outcome: str) -> None:
        self.shadows.append((experiment, outcome))

    def guarded(self, guard: str, action: str) -> None:
        self.guards.append((guard, action))

    def denied(self, tool: str) -> None:
        self.denials.append(tool)

    def fenced(self) -> None:
        self.refused_writes += 1

    def stopped(self, seconds: float) -> None:
        self.stops.append(seconds)

    def decided(self, risk: str, decision: str, age: float) -> None:
        assert age >= 0
        self.decisions.append((risk, decision))

    def approvals(self, waiting: int, oldest_age: float) -> None:
        self.pending.append((waiting, oldest_age))

    def queue(self, depth: int, oldest_age: float) -> None:
        pass
