"""Providers without a network: the real SDK clients over a transport that serves prepared answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Literal, TypeVar

import httpx2
import msgspec

from app.domain.messages import Api
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, TextDelta
from app.llm.prices import PriceBook
from app.llm.providers import ModelProvider, open_provider
from tests.llm.messages import REQUEST

T = TypeVar("T")
API_NAMES: tuple[Api, ...] = ("anthropic-messages", "openai-responses", "openai-chat")


class Pieces(httpx2.AsyncByteStream):
    """A body that arrives in these pieces, and then ends or breaks."""

    def __init__(self, pieces: Iterable[bytes], broken: Exception | None = None) -> None:
        self._pieces = pieces
        self._broken = broken
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._broken is not None:
            raise self._broken

    async def aclose(self) -> None:
        self.closed = True


class Served(msgspec.Struct, frozen=True):
    """One prepared answer."""

    body: bytes | httpx2.AsyncByteStream
    status: int = 200
    headers: dict[str, str] = msgspec.field(
        default_factory=lambda: {"content-type": "text/event-stream; charset=utf-8"}
    )


class Script:
    """Serves answers in order and keeps the requests."""

    def __init__(self, *answers: Served) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        served = self.answers.pop(0)
        if isinstance(served.body, bytes):
            return httpx2.Response(served.status, headers=served.headers, content=served.body)
        return httpx2.Response(served.status, headers=served.headers, stream=served.body)


@asynccontextmanager
async def provider(
    api: Api, script: Script, base_url: str | None = None, prices: PriceBook | None = None
) -> AsyncIterator[ModelProvider]:
    """A provider that speaks `api` with the script."""
    kind: Literal["anthropic", "openai"] = "anthropic" if api == "anthropic-messages" else "openai"
    opened = open_provider(
        name=kind,
        kind=kind,
        api="responses" if api == "openai-responses" else "chat" if api == "openai-chat" else None,
        api_key="test-key",
        base_url=base_url,
        own_host=base_url is None,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(script)),
        prices=prices,
    )
    try:
        yield opened
    finally:
        await opened.aclose()


def attempt() -> Attempt:
    return Attempt(number=1, provider="p", model="m", started=time.monotonic())


async def collect(chunks: AsyncGenerator[T, None]) -> list[T]:
    async with aclosing(chunks):
        return [chunk async for chunk in chunks]


async def ask(
    opened: ModelProvider, request: ModelRequest = REQUEST, model: str = "model-1", tried: Attempt | None = None
) -> Completed:
    """The whole answer; its deltas spell its content."""
    chunks = await collect(opened.target(model).stream(request, tried or attempt()))
    return whole(chunks)


def whole(chunks: Sequence[ModelChunk]) -> Completed:
    last = chunks[-1]
    assert isinstance(last, Completed)
    assert not any(isinstance(chunk, Completed) for chunk in chunks[:-1])
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta)) == last.content
    assert all(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))
    return last


def cut(body: bytes, size: int) -> list[bytes]:
    """`body` in pieces of `size` bytes; 0: whole."""
    return [body[at : at + size] for at in range(0, len(body), size)] if size else [body]
