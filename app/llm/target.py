"""One model behind one SDK client: a `Target`. What differs between the APIs is an `Api`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from app.domain.errors import ProviderError
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest
from app.llm.answers import Answer
from app.llm.prices import TargetPrices
from app.llm.refusals import Refusals
from app.llm.sse import Decoder, Frame

if TYPE_CHECKING:
    import httpx2

MAX_BODY = 32 * 1024 * 1024
"""Bytes of an answer that comes as one JSON document."""

STREAM_TYPES = ("", "text/event-stream", "text/plain", "application/octet-stream")
"""Content types that are read as a stream: compatible servers send more than the right one."""


class Client(Protocol):
    """An SDK's client."""

    async def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """The answer as soon as its headers are there. Raises ProviderError."""
        ...

    def hide(self, error: ProviderError) -> ProviderError:
        """The error, without the key of the account."""
        ...

    def release(self, response: httpx2.Response, rest: AsyncGenerator[bytes, None]) -> None:
        """Take over a response whose answer is whole, with what is left of its body: both are closed later, nobody waits."""
        ...


class Reading(Protocol):
    """One answer being read, without I/O. Both ways in fill the `Answer` that the reading was made for, and raise ProviderError."""

    def frame(self, frame: Frame) -> bool:
        """Take in the next event; True once the answer is whole."""
        ...

    def body(self, data: bytes) -> None:
        """Take in the whole answer as one JSON document."""
        ...

    def completed(self) -> Completed:
        """The whole answer, once one of the above has said so."""
        ...


Written = tuple[bytes, dict[str, str]]
"""A request's body, and its own headers."""
ALL_TAKEN: frozenset[str] = frozenset()


class Write(Protocol):
    """Writes requests."""

    def __call__(self, request: ModelRequest, model: str, refused: frozenset[str] = ALL_TAKEN, /) -> Written:
        """The request for that model, without the parameters that it refuses. The same arguments give the same bytes."""
        ...


class Api(msgspec.Struct, frozen=True):
    """One vendor API: where requests go, how one is written, and how an answer is read. `optional` is as in `Refusals`."""

    path: str
    write: Write
    read: Callable[[Answer], Reading]
    optional: Mapping[str, str] = {}


class ModelTarget:
    """One model of one provider."""

    def __init__(
        self,
        *,
        provider: str,
        system: str,
        model: str,
        client: Client,
        api: Api,
        refusals: Refusals,
        prices: TargetPrices | None,
    ) -> None:
        """`prices` None: attempts say nothing of their cost."""
        self.provider = provider
        self.system = system
        self.model = model
        self._client = client
        self._api = api
        self._refusals = refusals
        self._prices = prices

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        """Ask once. Text that came in one network read is one delta; an empty ReasoningDelta says that the model is at work.

        Ends with `Completed` or raises ProviderError. An answer that is not whole is closed with its connection when the
        iterator is; a whole one is given back to the client, so nothing is awaited after `Completed`. However it ends,
        `attempt` says afterwards what it cost. A parameter that the model refuses is left out, and the attempt says so.
        """
        failure: ProviderError | None = None
        answer: Answer | None = None
        begun = False
        try:
            if self._prices is not None:
                await self._prices.ready()
            response = await self._post(request, attempt)
            answer = Answer(attempt)
            body, whole = _bytes(response), False
            try:
                async with aclosing(_read(response, body, self._api.read(answer), answer)) as chunks:
                    async for chunk in chunks:
                        begun, whole = True, type(chunk) is Completed
                        yield chunk
            finally:
                if whole:
                    self._client.release(response, body)
                else:
                    await _close(response, body)
        except ProviderError as error:
            self._client.hide(error)
            error.provider, error.model = self.provider, self.model
            failure = error
            raise
        finally:
            if self._prices is not None:
                self._prices.settle(attempt, answer, failure, begun=begun)

    async def _post(self, request: ModelRequest, attempt: Attempt) -> httpx2.Response:
        """Ask, again at once without a parameter that the answer refuses: nothing was charged for that. Raises ProviderError."""
        while True:
            refused = self._refusals.of(request)
            attempt.dropped_parameters = tuple(sorted(refused))
            content, headers = self._api.write(request, self.model, refused)
            try:
                return await self._client.post(self._api.path, content, {"Accept": "text/event-stream", **headers})
            except ProviderError as failure:
                if not self._refusals.learn(failure, request):
                    raise


async def _read(
    response: httpx2.Response, body: AsyncGenerator[bytes, None], reading: Reading, answer: Answer
) -> AsyncGenerator[ModelChunk, None]:
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or content_type.endswith("+json"):
        reading.body(await _whole(body))
        for chunk in answer.take():
            yield chunk
    elif content_type in STREAM_TYPES:
        decoder = Decoder()
        whole = False
        async for piece in body:
            for frame in decoder.feed(piece):
                whole = whole or reading.frame(frame)
            for chunk in answer.take():
                yield chunk
            if whole:
                break
        else:
            whole = any(reading.frame(frame) for frame in decoder.end())
            for chunk in answer.take():
                yield chunk
        if not whole:
            raise ProviderError("stream_broken", "the stream ended before its terminal event", status=200)
    else:
        raise ProviderError("stream_broken", f"the answer is {content_type[:60]}, not a stream", status=200)
    yield reading.completed()


async def _bytes(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The decoded body. A connection that breaks is a ProviderError, whatever the transport calls it.

    A body that needs no decoding is read where it arrives: each layer above it costs every token.
    """
    coded = "content-encoding" in response.headers
    source = response.aiter_bytes() if coded else cast("AsyncIterator[bytes]", response.stream)
    try:
        async for piece in source:
            yield piece
    except Exception as error:
        raise ProviderError("stream_broken", f"the connection broke: {type(error).__name__}", status=200) from error


async def whole(response: httpx2.Response) -> bytes:
    """The body of an answer that is one JSON document; its connection can serve another call. Raises ProviderError."""
    body = _bytes(response)
    try:
        return await _whole(body)
    finally:
        await _close(response, body)


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > MAX_BODY:
            raise ProviderError("stream_broken", f"the answer is larger than {MAX_BODY} bytes", status=200)
    return bytes(body)


async def _close(response: httpx2.Response, body: AsyncGenerator[bytes, None]) -> None:
    try:
        await body.aclose()
    finally:
        await response.aclose()
