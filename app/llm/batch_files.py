"""What Batch APIs share: requests written one a line by the writers of live calls, and lines read by the readers of their answers."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import IO, Any

import msgspec

from app.domain.batches import BatchRequest, ItemError, RemoteResult, Requests
from app.domain.errors import ProviderError
from app.domain.models import Attempt, Completed
from app.llm.answers import Answer
from app.llm.prices import TargetPrices
from app.llm.target import MAX_BODY, Api
from app.llm.taxonomy import POLICIES

log = logging.getLogger(__name__)

IN_MEMORY = 4 * 1024 * 1024
"""Bytes of a file to be sent that are kept in memory; a longer one lies on disk, under no name."""
PIECE = 256 * 1024

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def unstreamed(content: bytes) -> dict[str, Any]:
    """The body of a live call, which asks for a stream, as that of one that does not."""
    return {
        field: value for field, value in _OBJECT.decode(content).items() if field not in ("stream", "stream_options")
    }


@asynccontextmanager
async def written(
    requests: Requests,
    write: Callable[[BatchRequest], bytes],
    *,
    head: bytes = b"",
    between: bytes = b"\n",
    tail: bytes = b"",
) -> AsyncGenerator[IO[bytes], None]:
    """A file with every request, at its beginning, gone at the end of the block."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        file.write(head)
        first = True
        async for request in requests():
            file.write((b"" if first else between) + write(request))
            first = False
        file.write(tail)
        file.seek(0)
        yield file


async def pieces(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    """What is in the file."""
    while piece := file.read(PIECE):
        yield piece


async def lines(body: AsyncIterator[bytes], limit: int = MAX_BODY) -> AsyncGenerator[bytes, None]:
    """The lines of a body that are not empty. One of more than `limit` bytes is left out, and the log says so."""
    line, skipping = bytearray(), False
    async for piece in body:
        *ended, rest = piece.split(b"\n")
        for end in ended:
            if not skipping and (line or end):
                yield bytes(line + end)
            line.clear()
            skipping = False
        if not skipping:
            line += rest
        if len(line) > limit:
            log.warning("a line of a batch's results is too long to be read", extra={"bytes": len(line)})
            line.clear()
            skipping = True
    if line:
        yield bytes(line)


class Answers:
    """Reads the answers of one model, and says what they cost in a batch."""

    def __init__(self, *, provider: str, model: str, api: Api, prices: TargetPrices | None) -> None:
        self._provider = provider
        self._model = model
        self._api = api
        self._prices = prices

    async def ready(self) -> None:
        """Whatever a price needs is loaded."""
        if self._prices is not None:
            await self._prices.ready()

    async def priced(self) -> bool:
        """Whether it is known what an answer costs."""
        await self.ready()
        return self._prices is not None and self._prices.price(tier="batch") is not None

    def answered(self, request_id: str, body: bytes) -> RemoteResult:
        """What a whole answer of the API says. One that is a failure, or cannot be read, is a failed request."""
        attempt = Attempt(number=1, provider=self._provider, model=self._model, started=time.monotonic())
        answer: Completed | None = None
        failure: ProviderError | None = None
        collected = Answer(attempt)
        try:
            reading = self._api.read(collected)
            reading.body(body)
            collected.take()
            answer = reading.completed()
        except ProviderError as error:
            failure = error
        attempt.ended, attempt.outcome = time.monotonic(), "ok" if failure is None else failure.kind
        attempt.service_tier = "batch"
        if self._prices is not None:
            self._prices.settle(attempt, collected, failure, begun=True)
        if failure is not None:
            return msgspec.structs.replace(failed(request_id, failure), attempt=attempt)
        return RemoteResult(request_id=request_id, ending="answered", answer=answer, attempt=attempt)


def failed(request_id: str, failure: ProviderError) -> RemoteResult:
    """A request that the provider did not answer, and did nothing for that it charges."""
    error = ItemError(failure.kind, str(failure))
    return RemoteResult(request_id=request_id, ending="failed", error=error, again=POLICIES[failure.kind].retry != "no")


async def closing(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The lines of a body that is closed with them."""
    async with aclosing(body), aclosing(lines(body)) as read:
        async for line in read:
            yield line
