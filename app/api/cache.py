"""The cache of answers."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.api.authentication import SCOPE
from app.api.once import Once
from app.api.paging import no_nul
from app.api.problems import responses
from app.api.schemas import Dropped
from app.domain.cache import Selection
from app.domain.errors import FieldError, RequestError
from app.domain.principals import Principal
from app.runs.cache_service import CacheService


@delete(
    "/v1/cache",
    opt={SCOPE: "admin"},
    status_code=200,
    tags=["cache"],
    summary="Drop cached answers",
    response_description="They are not given any more",
    responses=responses(
        "malformed_json",
        "request_timeout",
        "body_too_large",
        "validation_error",
        "idempotency_key_reused",
        "internal",
        "not_ready",
    ),
)
async def drop_answers(
    request: Request[Any, Any, Any],
    caches: NamedDependency[CacheService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    agent: Annotated[str | None, QueryParameter(description="Only of this agent.", min_length=1)] = None,
    prompt: Annotated[
        str | None, QueryParameter(description="Only of this prompt: `name`, or `name@v2`.", min_length=1)
    ] = None,
    tag: Annotated[
        str | None,
        QueryParameter(description="Only of runs with this tag: `name`, or `name:value`.", min_length=1),
    ] = None,
) -> Response[Dropped]:
    """Drops the answers to which all of the parameters apply; without any, all answers. Other processes follow within a second.

    What is being answered while they are dropped is not kept either.
    """
    no_nul(agent, prompt, tag)
    # What is misspelt, said twice, or said in a body must not mean all answers.
    given = [name for name, _ in request.query_params.multi_items()]
    wrong = next((name for name in given if name not in ("agent", "prompt", "tag") or given.count(name) > 1), None)
    if wrong is not None:
        problem = FieldError(wrong, "unknown, or given twice; known here: agent, prompt, tag")
        raise RequestError("validation_error", f"`{wrong}` is no parameter of this call, or given twice.", [problem])
    if await request.body():
        raise RequestError("validation_error", "This call takes no body: say which answers in its query.")
    selection = Selection(agent=agent, prompt=prompt, tag=tag)

    async def action() -> Dropped:
        return Dropped(dropped=await caches.drop(principal, selection))

    return await once.answer(action)


HANDLERS = [drop_answers]
