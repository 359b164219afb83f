"""OpenAI's Batch API: a file of requests goes up, a batch is made of it, two files of answers come down.

A part is found again by the `metadata` of its batch. Of Responses and Chat Completions the one that live calls use.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

import msgspec

from app.domain.batches import BatchLimits, BatchRequest, Found, ItemError, Progress, RemoteResult, Requests
from app.domain.errors import ProviderError
from app.llm.answers import decode
from app.llm.batch_files import Answers, closing, failed, unstreamed, written
from app.llm.client import SdkClient
from app.llm.failures import http_failure
from app.llm.target import Api

log = logging.getLogger(__name__)

LIMITS = BatchLimits(requests=50_000, bytes=200_000_000)
KEPT = 30 * 86_400
"""Seconds that the vendor keeps our files: the longest that it takes for an answer."""
PAGE = 100
TAG = "steadyhand_part"
"""The key of a batch's `metadata` that names the part."""

ENDED = frozenset({"completed", "expired", "cancelled"})
NOT_NOW = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
"""Codes of a batch that was not begun because too much is under way already."""
UNFINISHED = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
"""Codes of requests that were not begun before the batch ended."""


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 0
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Line(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


_LINE = msgspec.json.Decoder(_Line)
_ANY = msgspec.json.Decoder()


class OpenAIBatches:
    """One model of one provider that has OpenAI's Batch API."""

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
        url = f"/v1{self._api.path}"
        return msgspec.json.encode({"custom_id": request.id, "method": "POST", "url": url, "body": unstreamed(content)})

    async def metered(self) -> bool:
        return await self._answers.priced()

    async def marker(self) -> str:
        """The time, by the vendor's clock, of the newest batch."""
        page = await self._client.ask(lambda sdk: sdk.client.batches.list(limit=1, extra_headers=sdk.headers))
        return str(page.data[0].created_at) if page.data else "0"

    async def submit(self, part_id: str, requests: Requests) -> str:
        async with written(requests, self._line) as file:
            name = (f"{part_id}.jsonl", file, "application/jsonl")
            expiry = {"anchor": "created_at", "seconds": KEPT}
            uploaded = await self._upload(name, expiry)
        batch = await self._client.ask(
            lambda sdk: sdk.client.batches.create(
                input_file_id=uploaded.id,
                endpoint=f"/v1{self._api.path}",
                completion_window="24h",
                metadata={TAG: part_id},
                output_expires_after=expiry,
                extra_headers=sdk.headers,
            )
        )
        return str(batch.id)

    async def _upload(self, file: Any, expiry: Any) -> Any:
        """A file that was sent in vain makes no batch: whatever broke, the part is not there."""
        try:
            return await self._client.ask(
                lambda sdk: sdk.client.files.create(
                    file=file, purpose="batch", expires_after=expiry, extra_headers=sdk.headers
                )
            )
        except ProviderError as error:
            error.unsent = True
            raise

    async def find(self, part_id: str, marker: str, count: int, known: Collection[str]) -> Found:
        """Its batch is newer than the marker, and says so itself. Newest first."""
        after: dict[str, str] = {}
        while True:
            page = await self._client.ask(
                lambda sdk: sdk.client.batches.list(limit=PAGE, extra_headers=sdk.headers, **after)  # noqa: B023 - awaited here
            )
            for batch in page.data:
                if (batch.metadata or {}).get(TAG) == part_id:
                    return Found(remote_id=str(batch.id))
            if not page.data or not page.has_more or page.data[-1].created_at < int(marker):
                return Found()
            after = {"after": page.data[-1].id}

    async def progress(self, remote_id: str) -> Progress:
        batch = await self._client.ask(lambda sdk: sdk.client.batches.retrieve(remote_id, extra_headers=sdk.headers))
        if batch.status != "failed":
            return Progress(ended=batch.status in ENDED)
        errors = (batch.errors and batch.errors.data) or []
        code = next((error.code for error in errors if error.code), "batch_failed")
        told = "; ".join(f"{e.code or 'error'}: {str(e.message or '')[:200]}" for e in errors[:3]) or "not explained"
        return Progress(
            ended=True, failed=ItemError(code, f"the provider refused the batch: {told}"), again=code in NOT_NOW
        )

    async def cancel(self, remote_id: str) -> None:
        try:
            await self._client.ask(lambda sdk: sdk.client.batches.cancel(remote_id, extra_headers=sdk.headers))
        except ProviderError as error:
            if error.status not in (400, 409):  # it has ended
                raise

    async def results(self, remote_id: str, requests: Requests) -> AsyncGenerator[RemoteResult, None]:
        """The lines of the file of answers, then of that of failures."""
        await self._answers.ready()
        batch = await self._client.ask(lambda sdk: sdk.client.batches.retrieve(remote_id, extra_headers=sdk.headers))
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            async with aclosing(closing(await self._client.download(f"/files/{file_id}/content"))) as lines:
                async for line in lines:
                    result = self._result(line)
                    if result is not None:
                        yield result

    def _result(self, line: bytes) -> RemoteResult | None:
        try:
            said = decode(_LINE, line)
        except ProviderError:
            log.warning("a line of a batch's results cannot be read", extra={"provider": self.provider})
            return None
        code = (said.error and said.error.code) or ""
        ending = UNFINISHED.get(code)
        if ending is not None:
            error = ItemError(code, (said.error and said.error.message) or code)
            return RemoteResult(request_id=said.custom_id, ending=ending, error=error, again=True)  # type: ignore[arg-type]
        if said.response is not None and said.response.status_code == 200:
            return self._answers.answered(said.custom_id, bytes(said.response.body))
        if said.response is not None and said.response.status_code:
            body = decode(_ANY, bytes(said.response.body))
            headers = {"x-request-id": said.response.request_id} if said.response.request_id else {}
            return failed(said.custom_id, http_failure(said.response.status_code, headers, body))
        return failed(
            said.custom_id, ProviderError("server_error", f"the provider gave no answer: {code or 'not explained'}")
        )
