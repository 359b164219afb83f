"""Embeddings: what is asked of OpenAI's API and what is made of its answers; and those that need no key."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from app.domain.errors import ProviderError
from app.llm.offline_embedding import OfflineEmbedder
from app.runs.alike import similarity
from tests.llm.wire import Script, Served, provider

JSON = {"content-type": "application/json"}


def answer(*vectors: list[float], **more: Any) -> Served:
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    body = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}} | more
    return Served(json.dumps(body).encode(), headers=JSON)


async def test_texts_become_vectors_of_length_one() -> None:
    script = Script(answer([3.0, 4.0], [0.0, 2.0]), answer([1.0, 0.0]))
    async with provider("openai-chat", script) as opened:
        embedder = opened.embedder("text-embedding-3-small", 2)
        embedded = await embedder.embed(["one", "two"])
        assert embedded.vectors == [[0.6, 0.8], [0.0, 1.0]]
        assert embedded.tokens == 7
        assert (embedder.provider, embedder.system, embedder.model) == (opened.name, "openai", "text-embedding-3-small")
        await embedder.embed(["three"])
    request = script.requests[0]
    assert request.url.path.endswith("/embeddings")
    assert request.headers["authorization"].startswith("Bearer ")
    assert json.loads(await request.aread()) == {
        "model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": "float", "dimensions": 2,
    }  # fmt: skip


async def test_dimensions_are_the_models_own_where_none_are_asked_for() -> None:
    script = Script(answer([1.0, 0.0, 0.0], usage=None), answer([1.0, 0.0]))
    async with provider("openai-chat", script) as opened:
        embedder = opened.embedder("m", None)
        assert (await embedder.embed(["x"])).tokens is None
        assert b"dimensions" not in await script.requests[0].aread()
        with pytest.raises(ProviderError, match="has not 3 dimensions"):
            await embedder.embed(["x"])


@pytest.mark.parametrize(
    ("served", "kind"),
    [
        (Served(b'{"error": {"message": "no", "code": "invalid_api_key"}}', status=401, headers=JSON), "auth"),
        (Served(b"{}", status=500, headers=JSON), "server_error"),
        (Served(b"not json", headers=JSON), "stream_error"),
        (Served(b"\xff", headers=JSON), "stream_error"),
        (Served(b"[" * 100_000, headers=JSON), "stream_error"),
        (answer(), "stream_error"),
        (answer([1.0], [1.0]), "stream_error"),
        (answer([0.0, 0.0]), "stream_error"),
    ],
)
async def test_what_is_no_embedding_is_a_failure(served: Served, kind: str) -> None:
    async with provider("openai-chat", Script(served)) as opened:
        with pytest.raises(ProviderError) as error:
            await opened.embedder("m", None).embed(["x"])
    assert (error.value.kind, error.value.provider, error.value.model) == (kind, opened.name, "m")


@pytest.mark.parametrize("text", ["", "?!", "a", "naïve 🚀", "Wie geht's? " * 500])
async def test_offline_vectors_are_the_same_every_time(text: str) -> None:
    first, second = [(await OfflineEmbedder(dimensions=64).embed([text])).vectors[0] for _ in range(2)]
    assert first == second
    assert len(first) == 64
    assert math.hypot(*first) == pytest.approx(1)


async def test_offline_vectors_are_near_where_words_are_nearly_the_same() -> None:
    texts = ["How do I reset my password?", "how can I reset my passwords", "What is the capital of France?"]
    one, near, far = (await OfflineEmbedder().embed(texts)).vectors
    assert similarity(one, near) > 0.7
    assert similarity(one, far) < 0.3
