"""Turns that nobody waits for: accepted at once, and told to a callback when they end."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody

from app.api.authentication import SCOPE
from app.api.bodies import AsyncChatRequest, TaskRequest
from app.api.described import BODY_ERRORS
from app.api.problems import UNREACHABLE, problem, request_id, responses
from app.api.schemas import Task, TaskList, TaskOutcome
from app.api.turns import Turns
from app.domain.errors import DatabaseUnavailable, FieldError, RequestError
from app.runs.service import Started, StartRun

log = logging.getLogger(__name__)


@post(
    "/chat/async",
    opt={SCOPE: "runs", "limited": True},
    status_code=202,
    tags=["chat"],
    summary="Turns that nobody waits for",
    responses={202: ResponseSpec(Task, generate_examples=False, description="Accepted")}
    | responses(*BODY_ERRORS, "disabled", "rate_limited", "queue_full", "budget_exhausted"),
)
async def chat_async(
    data: JSONBody[AsyncChatRequest], request: Request[Any, Any, Any], turns: NamedDependency[Turns]
) -> Response[Any]:
    """Accepts one turn, or several as `items`, each a run of its own: `task_id` is its id.

    Ask for it at `/v1/runs/{id}`, or give a `callback_url`. Items are accepted in their order. One that is refused does not
    keep the others back: its place in `tasks` has the problem. Where all of them are, that is the answer.
    """
    if isinstance(data.items, msgspec.UnsetType):
        started = await turns.start(_wish(data.turns()[0]))
        headers = turns.headers(started) | {"Location": f"/v1/runs/{started.run_id}"}
        return Response(_task(started), status_code=202, headers=headers)
    accepted = await _accepted(turns, data.turns())
    refusals = [one for one in accepted if isinstance(one, RequestError)]
    if len(refusals) == len(accepted):
        raise refusals[0]
    tasks = [_refused(request, one) if isinstance(one, RequestError) else _outcome(one) for one in accepted]
    begun = [one for one in accepted if isinstance(one, Started)]
    shown = next((one for one in begun if not one.replayed), begun[0])  # a replay only where all of them are
    return Response(TaskList(tasks), status_code=202, headers=turns.headers(shown))


async def _accepted(turns: Turns, items: list[TaskRequest]) -> list[Started | RequestError]:
    """Every item's run or refusal, in order. Nothing is asked of a database that went away on the way."""
    await turns.check_urls(item.callback_url for item in items if item.callback_url is not None)
    found: list[Started | RequestError] = []
    away: RequestError | None = None
    for index, item in enumerate(items):
        if away is not None:
            found.append(away)
            continue
        try:
            found.append(await turns.start(_wish(item), index))
        except RequestError as error:
            if error.code == "idempotency_key_reused":
                raise
            errors = [FieldError(f"items[{index}].{wrong.path}", wrong.message) for wrong in error.errors]
            found.append(_named(error, errors))
        except DatabaseUnavailable as error:
            log.warning("the database is away", extra={"reason": str(error)})
            away = RequestError("not_ready", UNREACHABLE)
            found.append(away)
    return found


def _named(error: RequestError, errors: list[FieldError]) -> RequestError:
    """The same refusal, of one item."""
    return RequestError(error.code, error.detail, errors, retry_after=error.retry_after, standing=error.standing)


def _wish(turn: TaskRequest) -> StartRun:
    return StartRun(
        agent=turn.agent,
        input=turn.message,
        field="message",
        session_id=turn.session_id,
        user_id=turn.user_id,
        context=turn.context,
        timeout=turn.timeout,
        tags=turn.tags,
        callback_url=turn.callback_url,
    )


def _task(started: Started) -> Task:
    return Task(task_id=started.run_id, status=started.status, session_id=started.session_id)


def _outcome(started: Started) -> TaskOutcome:
    return TaskOutcome(status=started.status, task_id=started.run_id, session_id=started.session_id)


def _refused(request: Request[Any, Any, Any], error: RequestError) -> TaskOutcome:
    told = problem(request_id(request), error.code, error.detail, errors=error.errors)
    return TaskOutcome(status="refused", problem=told)


HANDLERS = [chat_async]
