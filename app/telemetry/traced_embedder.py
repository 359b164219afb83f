"""A wrapper of `Embedder`: a span for every call, and its metrics, which are those of model calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from opentelemetry.trace import SpanKind, StatusCode

from app.domain.cache import Embedded, Embedder
from app.domain.errors import ProviderError
from app.domain.models import Outcome
from app.telemetry import context, names
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing


class TracedEmbedder:
    """An Embedder whose calls are `embeddings {model}` spans and counted with the model calls."""

    def __init__(self, *, embedder: Embedder, tracing: Tracing, metrics: Metrics) -> None:
        self.provider = embedder.provider
        self.system = embedder.system
        self.model = embedder.model
        self._embedder = embedder
        self._tracing = tracing
        self._metrics = metrics

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The wrapped embedder's vectors."""
        run = context.run.get()
        span = self._tracing.tracer.start_span(
            f"{names.SPAN_EMBEDDINGS} {self.model}",
            kind=SpanKind.CLIENT,
            attributes={
                names.OPERATION: names.SPAN_EMBEDDINGS,
                names.PROVIDER: self.system,
                names.CONFIGURED_PROVIDER: self.provider,
                names.REQUEST_MODEL: self.model,
                **({} if run is None else {names.RUN_ID: run.run_id, names.SESSION_ID: run.session_id}),
            },
        )
        began = time.monotonic()
        outcome: Outcome = "server_error"
        try:
            embedded = await self._embedder.embed(texts)
            outcome = "ok"
            if embedded.tokens:
                span.set_attribute(names.USAGE_INPUT, embedded.tokens)
                self._metrics.llm_tokens[self.provider, self.model, "input"].inc(embedded.tokens)
            return embedded
        except ProviderError as error:
            outcome = error.kind
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            if outcome != "ok":
                span.set_attribute(names.ERROR_TYPE, outcome)
                span.set_status(StatusCode.ERROR, outcome)
            self._metrics.llm_calls[self.provider, self.model, outcome].inc()
            self._metrics.llm_duration[self.provider, self.model].observe(time.monotonic() - began)
            span.end()
