"""Anthropic's Message Batches API: all requests go up in one body, the answers come down as lines in any order.

Nothing that we could name a batch by is told back before it has ended; then its results are, by their `custom_id`. So a part that may
have been sent is found again among the batches that came after its marker and have as many requests, and where one of them has not ended,
nobody can say yet.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from app.domain.batches import BatchLimits, BatchRequest, Found, ItemError, Progress, RemoteResult, Requests
from app.domain.errors import ProviderError
from app.llm.answers import decode
from app.llm.batch_files import Answers, closing, failed, pieces, unstreamed, written
from app.llm.client import SdkClient
from app.llm.failures import event_failure
from app.llm.target import Api

log = logging.getLogger(__name__)

LIMITS = BatchLimits(requests=100_000, bytes=256_000_000)
PATH = "/v1/messages/batches"
PAGE = 1000


class _Result(msgspec.Struct, frozen=True):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class _Created(msgspec.Struct, frozen=True):
    id: str


class _Line(msgspec.Struct, frozen=True):
    custom_id: str
    result: _Result


_CREATED = msgspec.json.Decoder(_Created)
_LINE = msgspec.json.Decoder(_Line)
_OBJECTS = msgspec.json.Decoder(list[dict[str, Any]])


class AnthropicBatches:
    """One model of one provider that has Anthropic's Batch API."""

    limits = LIMITS

    def __init__(self, *, provider: str, model: str, client: SdkClient, api: Api, answers: Answers) -> None:
        self.provider = provider
        self.model = model
        self._client = client
        self._api = api
        self._answers = answers

    def size(self, request: BatchRequest) -> int:
        return len(self._line(request)) + 1

    def _line(self, request: BatchRequest) -> bytes:
        content, _ = self._api.write(request.request, self.model)
        return msgspec.json.encode({"custom_id": request.id, "params": _cached_for_all(unstreamed(content))})

    async def metered(self) -> bool:
        return await self._answers.priced()

    async def marker(self) -> str:
        """The newest batch: its time, by the vendor's clock, and its id."""
        page = await self._client.ask(lambda sdk: sdk.client.messages.batches.list(limit=1, extra_headers=sdk.headers))
        return f"{page.data[0].created_at.isoformat()} {page.data[0].id}" if page.data else ""

    async def submit(self, part_id: str, requests: Requests) -> str:
        headers: dict[str, str] = {}

        def line(request: BatchRequest) -> bytes:
            headers.update(self._api.write(request.request, self.model)[1])
            return self._line(request)

        async with written(requests, line, head=b'{"requests":[', between=b",", tail=b"]}") as file:
            size = file.seek(0, 2)
            file.seek(0)
            response = await self._client.ask(
                lambda sdk: sdk.client.post(
                    PATH,
                    content=pieces(file),
                    cast_to=sdk.response,
                    options={
                        "headers": {
                            "Content-Type": "application/json",
                            "Content-Length": str(size),
                            **headers,
                            **sdk.headers,
                        }
                    },
                )
            )
        return decode(_CREATED, response.content).id

    async def find(self, part_id: str, marker: str, count: int, known: Collection[str]) -> Found:
        time, _, newest = marker.partition(" ")
        oldest = datetime.fromisoformat(time) if time else None
        certain = True
        after: dict[str, str] = {}
        while True:
            page = await self._client.ask(
                lambda sdk: sdk.client.messages.batches.list(limit=PAGE, extra_headers=sdk.headers, **after)  # noqa: B023 - awaited here
            )
            for batch in page.data:
                if batch.id == newest or (oldest is not None and batch.created_at < oldest):
                    return Found(certain=certain)
                counts = batch.request_counts
                total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                if total != count or batch.id in known:
                    continue
                if batch.processing_status != "ended":
                    certain = False
                elif batch.archived_at is None and await self._is(batch.id, part_id):
                    return Found(remote_id=str(batch.id))
            if not page.data or not page.has_more:
                return Found(certain=certain)
            after = {"after_id": page.data[-1].id}

    async def _is(self, remote_id: str, part_id: str) -> bool:
        """Whether the first of its results that can be read is one of that part."""
        async with aclosing(closing(await self._client.download(f"{PATH}/{remote_id}/results"))) as lines:
            async for line in lines:
                said = self._read(line)
                if said is not None:
                    return said.custom_id.rpartition("_")[0] == part_id
        return False

    async def progress(self, remote_id: str) -> Progress:
        batch = await self._client.ask(
            lambda sdk: sdk.client.messages.batches.retrieve(remote_id, extra_headers=sdk.headers)
        )
        return Progress(ended=batch.processing_status == "ended")

    async def cancel(self, remote_id: str) -> None:
        try:
            await self._client.ask(lambda sdk: sdk.client.messages.batches.cancel(remote_id, extra_headers=sdk.headers))
        except ProviderError as error:
            if error.status not in (400, 409):  # it has ended
                raise

    async def results(self, remote_id: str, requests: Requests) -> AsyncGenerator[RemoteResult, None]:
        await self._answers.ready()
        async with aclosing(closing(await self._client.download(f"{PATH}/{remote_id}/results"))) as lines:
            async for line in lines:
                said = self._read(line)
                if said is not None:
                    yield self._result(said)

    def _read(self, line: bytes) -> _Line | None:
        try:
            return decode(_LINE, line)
        except ProviderError:
            log.warning("a line of a batch's results cannot be read", extra={"provider": self.provider})
            return None

    def _result(self, said: _Line) -> RemoteResult:
        kind = said.result.type
        if kind == "succeeded":
            return self._answers.answered(said.custom_id, bytes(said.result.message))
        if kind == "expired":
            error = ItemError("batch_expired", "the provider's batch expired before this request was begun")
            return RemoteResult(request_id=said.custom_id, ending="expired", error=error, again=True)
        if kind == "canceled":
            error = ItemError("batch_cancelled", "the provider's batch was cancelled before this request was begun")
            return RemoteResult(request_id=said.custom_id, ending="cancelled", error=error, again=True)
        return failed(said.custom_id, event_failure(said.result.error))


def _cached_for_all(params: dict[str, Any]) -> dict[str, Any]:
    """What all requests of a batch share is cached for an hour, as the vendor advises; no request comes twice, so nothing else is."""
    messages = _OBJECTS.decode(params["messages"])
    for message in messages:
        for block in message["content"]:
            block.pop("cache_control", None)
    params["messages"] = messages
    if "system" in params:
        system = _OBJECTS.decode(params["system"])
        system[-1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
        params["system"] = system
    return params
