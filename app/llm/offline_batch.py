"""The offline provider's batches: nothing leaves the process, every item is answered when its results are asked for."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import msgspec

from app.domain.batches import BatchLimits, BatchRequest, Found, Progress, RemoteResult, Requests
from app.domain.models import Attempt, Completed
from app.llm.offline import OfflineTarget


class OfflineBatches:
    """One model of the offline provider. It holds no state: a part is there as soon as it is asked for, and its answers are always the same."""

    limits = BatchLimits(requests=50_000, bytes=200_000_000)

    def __init__(self, *, provider: str, model: str) -> None:
        self.provider = provider
        self.model = model
        self._target = OfflineTarget(provider=provider, model=model)

    def size(self, request: BatchRequest) -> int:
        return len(msgspec.json.encode(request))

    async def metered(self) -> bool:
        return False

    async def marker(self) -> str:
        return ""

    async def submit(self, part_id: str, requests: Requests) -> str:
        return part_id

    async def find(self, part_id: str, marker: str, count: int, known: Collection[str]) -> Found:
        return Found(remote_id=part_id)

    async def progress(self, remote_id: str) -> Progress:
        return Progress(ended=True)

    async def cancel(self, remote_id: str) -> None:
        """It has ended."""

    async def results(self, remote_id: str, requests: Requests) -> AsyncGenerator[RemoteResult, None]:
        async for asked in requests():
            attempt = Attempt(number=1, provider=self.provider, model=self.model, started=time.monotonic())
            async with aclosing(self._target.stream(asked.request, attempt)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, Completed):
                        attempt.ended, attempt.outcome = time.monotonic(), "ok"
                        yield RemoteResult(request_id=asked.id, ending="answered", answer=chunk, attempt=attempt)
