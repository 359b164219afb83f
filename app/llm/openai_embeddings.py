"""OpenAI's embeddings, also as compatible servers speak them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from app.domain.cache import Embedded
from app.domain.errors import ProviderError
from app.llm.target import Client, whole

PATH = "/embeddings"


class _Vector(msgspec.Struct, frozen=True):
    index: Annotated[int, msgspec.Meta(ge=0)]
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class OpenAIEmbedder:
    """One embedding model of one account. `dimensions` None: as many as the model has by itself."""

    def __init__(self, *, provider: str, model: str, client: Client, dimensions: int | None) -> None:
        self.provider = provider
        self.system = "openai"
        self.model = model
        self._client = client
        self._dimensions = dimensions
        self._got: int | None = dimensions

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """One call, which is not repeated. Raises ProviderError; `stream_error` for an answer that is not one."""
        body: dict[str, Any] = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        try:
            response = await self._client.post(PATH, msgspec.json.encode(body), {"Accept": "application/json"})
            return self._read(await whole(response), len(texts))
        except ProviderError as error:
            error.provider, error.model = self.provider, self.model
            raise

    def _read(self, body: bytes, count: int) -> Embedded:
        try:
            answer = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError("stream_error", "the answer holds no embeddings", status=200) from error
        found = {vector.index: vector.embedding for vector in answer.data}
        if sorted(found) != list(range(count)):
            raise ProviderError("stream_error", f"{len(found)} embeddings came for {count} texts", status=200)
        vectors = [_unit(found[index]) for index in range(count)]
        self._got = self._got or len(vectors[0])
        if any(len(vector) != self._got for vector in vectors):
            raise ProviderError("stream_error", f"an embedding has not {self._got} dimensions", status=200)
        return Embedded(vectors, None if answer.usage is None else answer.usage.prompt_tokens)


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    if not length or not math.isfinite(length):
        raise ProviderError("stream_error", "an embedding has no direction", status=200)
    return [value / length for value in vector]
