"""Batches: many model calls that nobody waits for, answered by a provider's Batch API at half the price.

A batch is items in order. They travel in parts, each of which is one batch at the provider: as many as its limits ask for, and one more for
each time that items without an answer are sent again. A part is worked on by one process at a time, under a claim with an epoch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from app.domain.messages import JsonObject, ModelStop, Usage
from app.domain.models import Attempt, Completed, ModelRequest
from app.domain.principals import Principal
from app.domain.usage import Scope

BatchStatus = Literal["queued", "submitting", "in_progress", "collecting", "cancelling", "ended", "cancelled", "failed"]
"""`ended`: every item has an outcome. `failed`: no item has an answer, since no part of the batch could be done."""
ItemStatus = Literal["pending", "succeeded", "errored", "expired", "cancelled"]
PartStatus = Literal["due", "submitting", "in_progress", "collecting"]
"""`submitting`: it may have reached the provider, or not; whoever goes on looks for it there first."""

OPEN_BATCHES = 100
"""Batches of one tenant that have not ended."""


class ItemError(msgspec.Struct, frozen=True):
    """Why there is no answer: a stable `code`, and what is known about it."""

    code: str
    detail: str


class ItemCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many items have which status."""

    pending: int
    succeeded: int
    errored: int
    expired: int
    cancelled: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as clients see it. `expires_at`: what has no answer by then gets none. `error`: what keeps it, or kept it, from being done.

    `usage` and `cost_usd` are sums over the answers so far; `cost_usd` null: the price of one of them is not known.
    """

    id: str
    agent: str
    agent_version: str
    user_id: str | None
    provider: str
    model: str
    status: BatchStatus
    tags: JsonObject
    counts: ItemCounts
    usage: Usage | None
    cost_usd: float | None
    error: ItemError | None
    created_at: datetime
    expires_at: datetime
    cancelled_at: datetime | None
    finished_at: datetime | None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """One item's outcome. `output` is JSON (a string, or the structured answer); `stop`: why the model ended it."""

    custom_id: str
    status: ItemStatus
    output: Any
    stop: ModelStop | None
    error: ItemError | None
    usage: Usage | None
    cost_usd: float | None


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One wish: any JSON as `input`, the prompt's `context`. `custom_id` is the caller's name for it, its own within the batch."""

    custom_id: str
    input: Any
    context: JsonObject | None = None
    tags: JsonObject = {}


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch to be accepted. `parts[n]` is the number, from 0, of the part in which item n travels; `window`: seconds until it expires.

    `metered`: it is known what answers cost, so that a month's budget bounds them.
    """

    id: str
    user_id: str | None
    agent: str
    agent_version: str
    route: str
    provider: str
    model: str
    tags: JsonObject
    window: float
    items: Sequence[BatchItem]
    parts: Sequence[int]
    metered: bool


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that this process may work on, for as long as its `epoch` is the current one.

    `marker` is what its provider said before it was sent, `remote_id` the provider's id of it. `tries`: looks at it since something
    changed. `cancelled`: its batch was, or has expired (`expired`), and the provider was told so (`told`). `overdue`: it has been so
    for so long that the provider will not end it any more.
    """

    id: str
    batch_id: str
    tenant: str
    user_id: str | None
    agent: str
    agent_version: str
    provider: str
    model: str
    status: PartStatus
    epoch: int
    items: int
    marker: str | None
    remote_id: str | None
    tries: int
    cancelled: bool
    expired: bool
    told: bool
    overdue: bool


class StoredItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a part, by its place in the batch."""

    n: int
    input: Any
    context: JsonObject | None
    tags: JsonObject


class ItemOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of item `n` in one part. `again`: it is no outcome yet if the item may be sent again."""

    n: int
    status: ItemStatus
    output: bytes | None = None
    error: ItemError | None = None
    attempt: Attempt | None = None
    again: bool = False


class BatchStore(Protocol):
    """Batches in storage. Every method may raise `DatabaseUnavailable`. What a part's owner writes is stored only under its epoch."""

    async def create(self, principal: Principal, batch: NewBatch) -> Batch | Scope:
        """Store it with its items and parts, once for its id; or whose budget of the month has nothing left for it.

        Raises `RequestError` queue_full where OPEN_BATCHES are open.
        """
        ...

    async def batch(self, principal: Principal, batch_id: str) -> Batch | None: ...

    async def batches(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        """Newest first."""
        ...

    async def results(self, principal: Principal, batch_id: str, after: int, limit: int) -> list[BatchResult]:
        """Items after that place (from 0; -1: from the first on), in order, with outcomes as far as they have some."""
        ...

    async def cancel(self, principal: Principal, batch_id: str) -> None:
        """Nothing more of it is sent, and what is under way is looked at at once. One that has ended is unchanged."""
        ...

    async def claim(self, seconds: float) -> Part | None:
        """The part that is due longest, nobody else's for so many seconds."""
        ...

    async def extend(self, part: Part, seconds: float) -> bool:
        """Keep the claim for so many more seconds. False: it is another's."""
        ...

    async def items(self, part: Part, after: int, limit: int) -> list[StoredItem]:
        """Items of the part that have no outcome yet, after that place, in order."""
        ...

    async def intend(self, part: Part, marker: str) -> bool:
        """Note, before anything is sent, that the part is being sent. False: it must not be, it is another's or was cancelled."""
        ...

    async def noted(self, part: Part, remote_id: str) -> bool:
        """The provider has it, under that id. False: it is another's by now, and that id is not stored."""
        ...

    async def known(self) -> list[str]:
        """The providers' ids of all parts, whosesoever, that are under way."""
        ...

    async def collecting(self, part: Part) -> bool:
        """The provider has ended it. False: it is another's by now."""
        ...

    async def told(self, part: Part) -> None:
        """The provider was told to cancel it."""
        ...

    async def pause(self, part: Part, seconds: float, status: PartStatus, error: ItemError | None, tries: int) -> None:
        """Let go of it; it is due again after so many seconds."""
        ...

    async def give_back(self, part: Part) -> None:
        """As if it had not been claimed, but where it is being sent: then nobody may look for it before it has arrived."""
        ...

    async def remote_id(self, part_id: str) -> str | None:
        """The provider's id of a part, whosever it is now."""
        ...

    async def unanswered(self, part: Part) -> int:
        """Items of the part that no result has spoken of."""
        ...

    async def record(self, part: Part, outcomes: Sequence[ItemOutcome]) -> bool:
        """Store outcomes, each item's first only, and in the ledger what they cost. False: the part is another's, nothing was stored."""
        ...

    async def end(self, part: Part, left: ItemStatus, error: ItemError | None, *, again: float | None) -> int | None:
        """The part has ended. Its items without an outcome get that one, but (`again`) those that may be sent again: they are put into
        a new part, due after so many seconds. How many those are; None: the part is another's, nothing was stored.
        """
        ...


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider takes in one batch."""

    requests: int
    bytes: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a look for a part at its provider found: its id; or that it is not there (`certain`); or that this cannot be said yet."""

    remote_id: str | None = None
    certain: bool = True


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the provider's batch stands. `failed`: it was never begun, and why; `again`: the same may be accepted later."""

    ended: bool
    failed: ItemError | None = None
    again: bool = False


class RemoteResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of one request. `answer` is None for any ending but `answered`; `again`: the same request may be answered
    another time. `attempt` has what it used and cost, None where the provider did nothing for it.
    """

    request_id: str
    ending: Literal["answered", "failed", "expired", "cancelled"]
    answer: Completed | None = None
    error: ItemError | None = None
    attempt: Attempt | None = None
    again: bool = False


class BatchRequest(msgspec.Struct, frozen=True):
    """One request of a part. The `id` is made of letters, digits, `_` and `-`, 64 at most."""

    id: str
    request: ModelRequest


Requests = Callable[[], AsyncIterator[BatchRequest]]
"""The requests of a part, from the first on each time it is called."""


class BatchProvider(Protocol):
    """One model of a provider that answers batches. Every method raises `ProviderError`."""

    provider: str
    model: str
    limits: BatchLimits

    def size(self, request: BatchRequest) -> int:
        """Bytes that the request takes in a batch."""
        ...

    async def metered(self) -> bool:
        """Whether it is known what an answer costs, and that this is something."""
        ...

    async def marker(self) -> str:
        """What `find` needs to know of the time before a part is sent."""
        ...

    async def submit(self, part_id: str, requests: Requests) -> str:
        """Send the part: the provider's id of it. After a failure without a status below 500 it may be there all the same."""
        ...

    async def find(self, part_id: str, marker: str, count: int, known: Collection[str]) -> Found:
        """Look for a part of so many requests that may have been sent after that marker. It is none of the `known` ids."""
        ...

    async def progress(self, remote_id: str) -> Progress: ...

    async def cancel(self, remote_id: str) -> None:
        """It ends soon, with what was answered by then. One that has ended is unchanged."""
        ...

    def results(self, remote_id: str, requests: Requests) -> AsyncGenerator[RemoteResult, None]:
        """Every result of one that has ended, in any order; what cannot be read is left out."""
        ...


class BatchProviders(Protocol):
    """The providers of this process."""

    def of_route(self, route: str) -> BatchProvider | None:
        """The first target of that route that answers batches."""
        ...

    def of_target(self, provider: str, model: str) -> BatchProvider | None: ...
