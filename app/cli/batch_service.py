"""The batches of a service, over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec

from app.cli.batch_file import Piece
from app.domain.batches import Batch
from app.domain.errors import RequestError, SteadyhandError

GIVE_UP = 60.0
"""Seconds in which a service that cannot be reached may come back."""
FIRST_LOOK, LONGEST_LOOK = 0.2, 10.0
"""Seconds between looks at a batch; each pause is half as long again as the one before."""
PAGE = 1000


class BatchClient:
    """`http` is closed by whoever made it; `name`: how the service is called in front of people."""

    def __init__(self, *, http: httpx2.AsyncClient, name: str, give_up: float = GIVE_UP) -> None:
        self._http = http
        self._name = name
        self._give_up = give_up

    async def create(self, piece: Piece) -> Batch:
        """The batch of that piece: made now, or by an earlier call for the same one."""
        headers = {"Idempotency-Key": piece.key, "Content-Type": "application/json"}
        made: Batch = await self._ask("POST", "/v1/batches", Batch, content=piece.body, headers=headers)
        return made

    async def until_ended(self, batch: Batch, changed: Callable[[Batch], None]) -> Batch:
        """The batch, once every item has an outcome. `changed` is told what is new."""
        pause = FIRST_LOOK
        told: Any = None
        while True:
            batch = await self._ask("GET", f"/v1/batches/{batch.id}", Batch)
            if (batch.status, batch.counts, batch.error) != told:
                told = (batch.status, batch.counts, batch.error)
                changed(batch)
                pause = FIRST_LOOK
            if batch.finished_at is not None:
                return batch
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 1.5, LONGEST_LOOK)

    async def results(self, batch_id: str) -> list[msgspec.Raw]:
        """Every item's outcome, in order, as JSON."""
        found: list[msgspec.Raw] = []
        cursor: str | None = None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = await self._ask("GET", f"/v1/batches/{batch_id}/results", _Page, params={"limit": str(PAGE), **more})
            found += page.data
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _ask(self, method: str, path: str, kind: Any, **more: Any) -> Any:
        """The answer, over as many connections as it takes. Raises `SteadyhandError` with one line to show."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._give_up, 0.1
        while True:
            try:
                response = await self._http.request(method, path, **more)
            except httpx2.TransportError as error:
                why = str(error) or type(error).__name__
            else:
                if response.status_code < 400:
                    return msgspec.json.decode(response.content, type=kind)
                refusal = self._refusal(response)
                if response.status_code != 503:
                    raise refusal
                why = refusal.detail
            if loop.time() > deadline:
                raise SteadyhandError(f"cannot reach {self._name}: {why}; the batch, if it was sent, goes on there")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 2.0)

    def _refusal(self, response: httpx2.Response) -> RequestError:
        try:
            told = msgspec.json.decode(response.content, type=_Told)
        except (msgspec.DecodeError, UnicodeError):
            raise SteadyhandError(
                f"{self._name} answered with HTTP {response.status_code} and no reason; is it a Steadyhand service?"
            ) from None
        wrong = "".join(f"\n  {error.path}: {error.message}" for error in told.errors)
        return RequestError(told.code, told.detail + wrong)


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    next_cursor: str | None


class _Wrong(msgspec.Struct):
    path: str
    message: str


class _Told(msgspec.Struct):
    """What we read of a problem."""

    detail: str
    code: Any = "error"
    errors: list[_Wrong] = []
