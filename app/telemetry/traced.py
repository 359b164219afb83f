"""Wrappers of the domain's Protocols: a span for every attempt at a model and for every tool call, and their metrics.

Spans of one attempt belong to the `Target`; counts belong to the `Provider`, which sees how each attempt was judged in
the end (a timeout cancels a target, so the target itself cannot tell).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from opentelemetry import context as otel
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from app.domain.errors import IN_ITS_WORDS, ProviderError
from app.domain.messages import ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, Provider, Recorder, Target
from app.domain.tiers import TierDecision
from app.domain.tools import Toolbox, ToolContext, ToolResult, ToolSpec
from app.telemetry import content, context, names
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing

UNKNOWN_TOOL = "unknown"
"""The label of calls to tools that do not exist: a model can make up any number of names."""


class TracedTarget:
    """A Target whose attempts are `chat {model}` spans."""

    def __init__(self, *, target: Target, tracing: Tracing) -> None:
        self.provider = target.provider
        self.system = target.system
        self.model = target.model
        self._target = target
        self._tracing = tracing
        self._name = f"{names.SPAN_CHAT} {target.model}"

    def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        """The target's chunks. The span begins with the first pull and ends with the stream, however that ends."""
        stream = self._target.stream(request, attempt)
        return self._spanned(stream, request, attempt) if self._tracing.enabled else stream

    async def _spanned(
        self, stream: AsyncGenerator[ModelChunk, None], request: ModelRequest, attempt: Attempt
    ) -> AsyncGenerator[ModelChunk, None]:
        span = self._tracing.tracer.start_span(
            self._name, kind=SpanKind.CLIENT, attributes=_asked(self._target, request, attempt)
        )
        started = time.monotonic()
        first: float | None = None
        completed: Completed | None = None
        stopped = False
        try:
            if self._tracing.content and span.is_recording():
                span.set_attributes(content.asked(request))
            async with aclosing(stream):
                async for chunk in stream:
                    if first is None:
                        first = time.monotonic() - started
                    if isinstance(chunk, Completed):
                        completed = chunk
                    yield chunk
        except ProviderError as error:
            words = str(error) if self._tracing.content else str(error).partition(IN_ITS_WORDS)[0]
            _failed(span, error.kind, words)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            stopped = completed is None
            raise
        except Exception as error:
            _failed(span, type(error).__qualname__, "")
            raise
        finally:
            if span.is_recording():
                span.set_attributes(_answered(attempt, completed, first))
                if self._tracing.content and completed is not None:
                    span.set_attributes(content.answered(completed))
            if stopped:
                # Whoever stopped it judges the attempt as the exception reaches it (a timeout), within this turn of the loop.
                asyncio.get_running_loop().call_soon(_end_stopped, span, attempt, time.time_ns())
            else:
                span.end()


class TracedProvider:
    """A Provider whose attempts are counted: calls, times, tokens, dollars, and moves from one target to the next."""

    def __init__(self, *, provider: Provider, metrics: Metrics) -> None:
        self._provider = provider
        self._metrics = metrics

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        """The provider's chunks; the attempts are counted when the stream ends, however that ends."""
        begun = len(recorder.attempts)
        run = context.run.get()
        if request.trimmed_tokens and run is not None:
            self._metrics.trimmed_tokens[(run.agent,)].inc(request.trimmed_tokens)
        try:
            async with aclosing(self._provider.stream(request, recorder)) as stream:
                async for chunk in stream:
                    yield chunk
        finally:
            self._count(request.route, recorder.attempts[begun:])

    def _count(self, route: str, attempts: Sequence[Attempt]) -> None:
        metrics = self._metrics
        before: Attempt | None = None
        for attempt in attempts:
            provider, model = attempt.provider, attempt.model
            ended = attempt.ended if attempt.ended is not None else time.monotonic()
            metrics.llm_calls[provider, model, attempt.outcome or "cancelled"].inc()
            metrics.llm_duration[provider, model].observe(ended - attempt.started)
            if attempt.first_token is not None:
                metrics.llm_first_token[provider, model].observe(attempt.first_token - attempt.started)
            if attempt.usage is not None:
                for kind, tokens in _tokens(attempt.usage):
                    if tokens:
                        metrics.llm_tokens[provider, model, kind].inc(tokens)
                if attempt.cost_usd is None:
                    metrics.llm_unpriced.inc()
            if attempt.cost_usd is not None:
                metrics.llm_cost[provider, model].inc(float(attempt.cost_usd))
            if before is not None and (before.provider, before.model) != (provider, model):
                source, target = f"{before.provider}/{before.model}", f"{provider}/{model}"
                metrics.llm_fallbacks[route, source, target, before.outcome or "cancelled"].inc()
            before = attempt


class TracedToolbox:
    """A Toolbox whose calls are `execute_tool {tool}` spans and counted."""

    def __init__(self, *, toolbox: Toolbox, tracing: Tracing, metrics: Metrics) -> None:
        self._toolbox = toolbox
        self._tracing = tracing
        self._metrics = metrics

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The wrapped toolbox's."""
        return self._toolbox.specs(names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """The wrapped toolbox's result. What the tool does is inside its span."""
        tool = UNKNOWN_TOOL if spec is None else spec.name
        status = "cancelled"
        started = time.perf_counter()
        try:
            if self._tracing.enabled:
                result = await self._spanned(tool, spec, call, context)
            else:
                result = await self._toolbox.run(spec, call, context)
            status = result.status
            for signal in result.signals:
                self._metrics.injection_signals[tool, signal].inc()
            return result
        except asyncio.CancelledError:
            raise
        except BaseException:
            status = "error"
            raise
        finally:
            self._metrics.tool_calls[tool, status].inc()
            self._metrics.tool_duration[(tool,)].observe(time.perf_counter() - started)

    async def _spanned(self, tool: str, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        span = self._tracing.tracer.start_span(f"{names.SPAN_TOOL} {tool}", attributes=_called(tool, call, context))
        token = otel.attach(set_span_in_context(span))
        try:
            if self._tracing.content:
                span.set_attribute(names.CONTENT_ARGUMENTS, call.arguments)
            result = await self._toolbox.run(spec, call, context)
            span.set_attribute(names.TOOL_STATUS, result.status)
            if result.signals:
                span.set_attribute(names.TOOL_SIGNALS, result.signals)
            if result.status != "ok":
                _failed(span, result.status, "")
            if self._tracing.content:
                span.set_attribute(names.CONTENT_RESULT, result.text)
            return result
        except asyncio.CancelledError:
            span.set_attributes({names.TOOL_STATUS: "cancelled", names.ERROR_TYPE: "cancelled"})
            raise
        except BaseException as error:
            _failed(span, type(error).__qualname__, "")
            raise
        finally:
            otel.detach(token)
            span.end()


def _end_stopped(span: Span, attempt: Attempt, ended: int) -> None:
    outcome = attempt.outcome or "cancelled"
    span.set_attribute(names.ERROR_TYPE, outcome)
    if outcome != "cancelled":
        span.set_status(StatusCode.ERROR, outcome)
    span.end(ended)


def _asked(target: Target, request: ModelRequest, attempt: Attempt) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: names.SPAN_CHAT,
        names.PROVIDER: target.system,
        names.CONFIGURED_PROVIDER: target.provider,
        names.REQUEST_MODEL: target.model,
        names.REQUEST_STREAM: True,
        names.ROUTE: request.route,
        names.ATTEMPT: attempt.number,
    }
    run = context.run.get()
    if run is not None:
        attributes[names.CONVERSATION_ID] = attributes[names.SESSION_ID] = run.session_id
        attributes[names.RUN_ID] = run.run_id
        attributes[names.AGENT_NAME] = run.agent
    if request.trimmed_tokens:
        attributes[names.TRIMMED_TOKENS] = request.trimmed_tokens
    if request.tier is not None:
        attributes.update(tier_attributes(request.tier))
    if request.temperature is not None:
        attributes[names.REQUEST_TEMPERATURE] = request.temperature
    if request.max_output_tokens is not None:
        attributes[names.REQUEST_MAX_TOKENS] = request.max_output_tokens
    if request.reasoning is not None:
        attributes[names.REQUEST_REASONING] = request.reasoning
    return attributes


def _answered(attempt: Attempt, completed: Completed | None, first: float | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    if first is not None:
        attributes[names.RESPONSE_FIRST_CHUNK] = first
    stop, usage = attempt.finish, attempt.usage
    model, response_id = attempt.response_model, attempt.response_id
    if completed is not None:
        stop, usage = completed.stop, completed.usage or usage
        model, response_id = completed.response_model or model, completed.response_id or response_id
    if stop is not None:
        attributes[names.RESPONSE_FINISH] = (stop,)
    if model:
        attributes[names.RESPONSE_MODEL] = model
    if response_id:
        attributes[names.RESPONSE_ID] = response_id
    if usage is not None:
        attributes.update(usage_attributes(usage))
    if attempt.cost_usd is not None:
        attributes[names.COST_USD] = float(attempt.cost_usd)
    if attempt.dropped_parameters:
        attributes[names.DROPPED_PARAMETERS] = attempt.dropped_parameters
    return attributes


def tier_attributes(decision: TierDecision) -> dict[str, AttributeValue]:
    """Which tier, and why."""
    attributes: dict[str, AttributeValue] = {
        names.TIER: decision.tier,
        names.TIER_ROUTE: decision.route,
        names.TIER_SOURCE: decision.by,
        names.TIER_REASONS: decision.reasons,
    }
    if decision.score is not None:
        attributes[names.TIER_SCORE] = decision.score
    return attributes


def usage_attributes(usage: Usage) -> dict[str, AttributeValue]:
    """What is known of it; input includes what was cached, output includes reasoning, as the conventions count."""
    known = (
        (names.USAGE_INPUT, usage.input_tokens),
        (names.USAGE_CACHE_READ, usage.cached_input_tokens),
        (names.USAGE_CACHE_WRITE, usage.cache_write_tokens),
        (names.USAGE_OUTPUT, usage.output_tokens),
        (names.USAGE_REASONING, usage.reasoning_tokens),
    )
    return {name: tokens for name, tokens in known if tokens is not None}


def _tokens(usage: Usage) -> tuple[tuple[str, int | None], ...]:
    """Tokens by the metric's types, as counted by the domain: `input` includes the cached ones, `output` the reasoning."""
    return (
        ("input", usage.input_tokens),
        ("cache_read", usage.cached_input_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
    )


def _called(tool: str, call: ToolCall, tool_context: ToolContext) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: names.SPAN_TOOL,
        names.TOOL_NAME: tool,
        names.TOOL_TYPE: "function",
        names.TOOL_CALL_ID: call.id,
        names.RUN_ID: tool_context.run_id,
        names.SESSION_ID: tool_context.session_id,
        names.CONVERSATION_ID: tool_context.session_id,
    }
    run = context.run.get()
    if run is not None:
        attributes[names.AGENT_NAME] = run.agent
    return attributes


def _failed(span: Span, kind: str, message: str) -> None:
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR, message or kind)
