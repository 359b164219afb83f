"""Embeddings: a span for every call, and their place among the model calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.domain.cache import Embedded
from app.domain.errors import FailureKind, ProviderError
from app.telemetry.setup import open_tracing
from app.telemetry.traced_embedder import TracedEmbedder
from tests.telemetry.fakes import CANARY, new_metrics
from tests.telemetry.receiver import otlp_receiver
from tests.telemetry.turns import environment


class Fake:
    """Answers, fails, or (kind None) never comes to an end."""

    provider, system, model = "main", "openai", "small"

    def __init__(self, kind: FailureKind | str | None) -> None:
        self._kind = kind

    async def embed(self, texts: Sequence[str]) -> Embedded:
        if self._kind is None:
            await asyncio.Event().wait()
        if self._kind != "ok":
            raise ProviderError(self._kind, "no")  # type: ignore[arg-type]
        return Embedded([[1.0] for _ in texts], 7)


async def test_every_call_is_a_span_and_is_counted_without_its_texts() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()

        async def embed(kind: str | None) -> Embedded:
            embedder = TracedEmbedder(embedder=Fake(kind), tracing=tracing, metrics=metrics)
            assert (embedder.provider, embedder.system, embedder.model) == ("main", "openai", "small")
            async with asyncio.timeout(0.01):
                return await embedder.embed([CANARY])

        assert (await embed("ok")).vectors == [[1.0]]
        with pytest.raises(ProviderError):
            await embed("rate_limited")
        with pytest.raises(TimeoutError):
            await embed(None)
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 3)
    assert {span.name for span in collector.spans} == {"embeddings small"}
    found = [(s.attributes.get("error.type"), s.attributes.get("gen_ai.usage.input_tokens")) for s in collector.spans]
    assert sorted(found, key=str) == [("cancelled", None), ("rate_limited", None), (None, 7)]
    assert CANARY not in repr(collector.spans)
    samples = {(s.name, s.labels.get("outcome")): s.value for metric in registry.collect() for s in metric.samples}
    outcomes = {outcome: value for (name, outcome), value in samples.items() if name == "agent_llm_calls_total"}
    assert outcomes == {"ok": 1, "rate_limited": 1, "cancelled": 1}
    assert samples["agent_llm_tokens_total", None] == 7
