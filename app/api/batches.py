"""Batches as resources: accepted, looked at, read, cancelled."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from app.api.authentication import SCOPE
from app.api.batch_shapes import MAX_BODY, MAX_CONTAINERS, Batch, BatchPage, BatchRequest, BatchResultPage
from app.api.decoding import CONTAINERS
from app.api.described import BODY_ERRORS
from app.api.limits import Limits
from app.api.once import Once
from app.api.paging import Limit, PageCursor, cursor_after, position
from app.api.problems import responses
from app.batches.service import BatchService, WantedBatch
from app.domain.batches import BatchItem
from app.domain.errors import RequestError
from app.domain.idempotency import KeptAnswer
from app.domain.principals import Principal
from app.runs.ids import new_id


@post(
    "/v1/batches",
    opt={SCOPE: "runs", "limited": True, CONTAINERS: MAX_CONTAINERS},
    status_code=202,
    tags=["batches"],
    summary="Begin a batch",
    request_max_body_size=MAX_BODY,
    response_description="Accepted: the batch as it is now",
    responses=responses(*BODY_ERRORS, "disabled", "rate_limited", "queue_full", "budget_exhausted"),
)
async def create_batch(
    data: JSONBody[BatchRequest],
    batches: NamedDependency[BatchService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    limits: NamedDependency[Limits],
) -> Response[Batch]:
    """Sends every item to the agent's model by its provider's Batch API, at half the price, for answers within a day or two.

    An item is one call: the agent's prompt and settings, and the item's input. `Location` is where the batch is.
    """
    batch_id = await once.derived_id("batch") or new_id("batch")
    items = [
        BatchItem(custom_id=item.custom_id, input=item.input, context=item.context, tags=item.tags)
        for item in data.items
    ]
    wanted = WantedBatch(
        agent=data.agent, items=items, window=data.completion_window, tags=data.tags, user_id=data.user_id
    )

    async def create() -> Batch:
        await limits.count(principal, data.user_id)
        return await batches.create(principal, wanted, batch_id)

    answer = await once.answer(create, status=202)
    answer.headers["Location"] = f"/v1/batches/{msgspec.json.decode(answer.content, type=_Named).id}"
    return answer


class _Named(msgspec.Struct):
    id: str


@get(
    "/v1/batches",
    opt={SCOPE: "runs"},
    tags=["batches"],
    summary="List batches",
    responses=responses("invalid_cursor", "validation_error", "internal", "not_ready"),
)
async def list_batches(
    batches: NamedDependency[BatchService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> BatchPage:
    """Batches, newest first."""
    found = await batches.batches(principal, position(page_cursor), limit)
    more = cursor_after(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return BatchPage(data=found, next_cursor=more)


@get(
    "/v1/batches/{batch_id:str}",
    opt={SCOPE: "runs"},
    tags=["batches"],
    summary="One batch",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_batch(
    batch_id: FromPath[str], batches: NamedDependency[BatchService], principal: NamedDependency[Principal]
) -> Batch:
    """How far it is, what it has used, and what keeps it from being done, if anything does."""
    return await batches.batch(principal, batch_id)


@get(
    "/v1/batches/{batch_id:str}/results",
    opt={SCOPE: "runs"},
    tags=["batches"],
    summary="A batch's results",
    responses=responses("invalid_cursor", "not_found", "validation_error", "internal", "not_ready"),
)
async def get_batch_results(
    batch_id: FromPath[str],
    batches: NamedDependency[BatchService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")] = 100,
) -> BatchResultPage:
    """The items in the order in which they were given; `pending` ones have no outcome yet. Outcomes never change again."""
    after = -1 if page_cursor is None else _place(page_cursor)
    found = await batches.results(principal, batch_id, after, limit)
    return BatchResultPage(data=found, next_cursor=str(after + len(found)) if len(found) == limit else None)


def _place(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit() and len(cursor) < 10:
        return int(cursor)
    raise RequestError("invalid_cursor", "The cursor is not one of this batch; begin without one.")


@post(
    "/v1/batches/{batch_id:str}/cancel",
    opt={SCOPE: "runs"},
    status_code=202,
    tags=["batches"],
    summary="Cancel a batch",
    response_description="It is being cancelled",
    responses={
        200: ResponseSpec(Batch, generate_examples=False, description="The batch had ended already; it is unchanged")
    }
    | responses("not_found", "validation_error", "idempotency_key_reused", "internal", "not_ready"),
)
async def cancel_batch(
    batch_id: FromPath[str],
    batches: NamedDependency[BatchService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[Batch]:
    """Nothing more of it is sent, and its provider is told to stop. What was answered by then stays, and is charged."""

    async def cancel() -> KeptAnswer:
        batch, live = await batches.cancel(principal, batch_id)
        return KeptAnswer(status=202 if live else 200, body=msgspec.json.encode(batch))

    return await once.answer(cancel)


HANDLERS = [create_batch, list_batches, get_batch, get_batch_results, cancel_batch]
