"""What goes into the batch routes, and what comes out of them. Field docs are the API's documentation."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from app.api.bodies import AgentName, Context, Input, Tags, UserId
from app.domain.batches import Batch as Batch
from app.domain.batches import BatchResult as BatchResult

MAX_ITEMS = 50_000
MAX_BODY = 8_000_000
"""Bytes of a batch's body: more than any other's."""
MAX_CONTAINERS = 5 * MAX_ITEMS
"""Arrays and objects of a batch's body: each item is one, and has a few."""
DAY = 86_400


class BatchItemRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of the agent's model."""

    custom_id: Annotated[
        str, Meta(min_length=1, max_length=256, description="Your name for the item, its own in the batch.")
    ]
    input: Input
    context: Context | None = None
    tags: Tags = {}

    def __post_init__(self) -> None:
        """Nothing: by being called it lets other threads have their turn, amid the decoding of many items."""


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many calls of one agent's model that nobody waits for. The agent has no tools."""

    agent: AgentName | None = None
    items: Annotated[list[BatchItemRequest], Meta(min_length=1, max_length=MAX_ITEMS)]
    completion_window: Annotated[
        float,
        Meta(
            ge=60,
            le=7 * DAY,
            description="Seconds after which what has no answer gets none. Providers take up to a day for each try.",
        ),
    ] = 2.0 * DAY
    tags: Tags = {}
    user_id: UserId | None = None


class BatchPage(msgspec.Struct, frozen=True):
    """Batches, newest first. `next_cursor` null: that was the last page."""

    data: list[Batch]
    next_cursor: str | None


class BatchResultPage(msgspec.Struct, frozen=True):
    """Items in their order, with outcomes as far as they have some. `next_cursor` null: that was the last page."""

    data: list[BatchResult]
    next_cursor: str | None
