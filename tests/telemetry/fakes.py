"""Scripted collaborators: one target, one toolbox, one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from app.domain.errors import ProviderError
from app.domain.messages import Message, ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, Recorder, Target, TextDelta
from app.domain.observers import RunInfo
from app.domain.tools import ToolContext, ToolResult, ToolSpec, ToolStatus
from app.telemetry.metrics import Metrics
from tests.scripted import KeptState

CANARY = "canary-7f3a9c"
"""Stands in every prompt, argument, result and answer here: telemetry must not hold it by default."""
USAGE = Usage(input_tokens=100, cached_input_tokens=60, cache_write_tokens=10, output_tokens=20, reasoning_tokens=5)
SPEC = ToolSpec(name="calculator", description="Calculates.", schema={"type": "object"})
REQUEST = ModelRequest(
    route="default",
    system=f"system {CANARY}",
    messages=(
        Message(id="m1", role="user", content=f"question {CANARY}", context=f'{{"note": "{CANARY}"}}'),
        Message(id="m2", role="assistant", content="", tool_calls=(ToolCall("c0", "calculator", f'"{CANARY}"'),)),
        Message(id="m3", role="tool", content=f"result {CANARY}", call_id="c0", name="calculator"),
    ),
    tools=(SPEC,),
    temperature=0.5,
    max_output_tokens=64,
    reasoning="low",
    trimmed_tokens=70,
)
COMPLETED = Completed(
    content=f"answer {CANARY}",
    tool_calls=(ToolCall("c1", "calculator", f'{{"x": "{CANARY}"}}'),),
    stop="tool_calls",
    usage=USAGE,
    response_model="m-1-2026",
    response_id="resp-1",
)


class FakeTarget:
    """Says one word and completes; or raises `error` instead of completing; or hangs after the word. Costs `cost` in any case."""

    def __init__(
        self,
        provider: str = "openai",
        model: str = "m-1",
        error: Exception | None = None,
        hangs: bool = False,
        cost: Decimal | None = None,
    ) -> None:
        self.provider = provider
        self.system = "openai"
        self.model = model
        self.closed = False
        self._error = error
        self._hangs = hangs
        self._cost = cost

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        try:
            yield TextDelta(f"answer {CANARY}")
            if self._hangs:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
            attempt.usage = USAGE
            yield COMPLETED
        finally:
            attempt.cost_usd = self._cost
            self.closed = True


class FakeRouter:
    """Asks its targets in order, judging each attempt as the real router does."""

    def __init__(self, *targets: Target, patience: float | None = None) -> None:
        self._targets = targets
        self._patience = patience

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        failure: ProviderError | None = None
        for target in self._targets:
            attempt = recorder.open(target.provider, target.model, time.monotonic())
            try:
                async with aclosing(target.stream(request, attempt)) as chunks:
                    while True:
                        try:
                            async with asyncio.timeout(self._patience):
                                chunk = await anext(chunks)
                        except TimeoutError:
                            attempt.outcome = "idle_timeout"
                            raise ProviderError("idle_timeout", "nothing came") from None
                        except StopAsyncIteration:
                            break
                        attempt.first_token = attempt.first_token or time.monotonic()
                        yield chunk
                attempt.outcome = "ok"
                return
            except ProviderError as error:
                attempt.outcome = error.kind
                failure = error
            finally:
                attempt.ended = time.monotonic()
        assert failure is not None
        raise failure


class FakeToolbox:
    """Every call ends with `status`, and with what the detector saw; or raises."""

    def __init__(
        self, status: ToolStatus = "ok", error: BaseException | None = None, signals: tuple[str, ...] = ()
    ) -> None:
        self._status = status
        self._error = error
        self._signals = signals

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        return (SPEC,)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        if self._error is not None:
            raise self._error
        result = msgspec.Raw(msgspec.json.encode(f"result {CANARY}"))
        return ToolResult(call_id=call.id, name=call.name, status=self._status, signals=self._signals, result=result)


def tool_context() -> ToolContext:
    async def emit(name: str, data: Any) -> None:
        raise AssertionError("no tool here emits")

    return ToolContext(
        run_id="run-1",
        session_id="session-1",
        tenant="default",
        user_id="ann",
        call_id="c1",
        idempotency_key="run-1:c1",
        deadline=0.0,
        emit=emit,
        state=KeptState(),
    )


def run_info(traceparent: str | None = None, attempt: int = 1) -> RunInfo:
    return RunInfo(
        run_id="run-1",
        session_id="session-1",
        tenant="default",
        user_id="ann",
        agent="assistant",
        agent_version="abc123",
        route="default",
        attempt=attempt,
        traceparent=traceparent,
        queued=0.25,
    )


def new_metrics() -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return Metrics(registry=registry, version="0.1.0"), registry
