"""What clients do with runs: begin one, stop it, let it go on, tell it something on its way."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from litestar import Response, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody

from app.api.authentication import SCOPE
from app.api.bodies import CancelRequest, ResumeRequest, RunRequest, SteerRequest
from app.api.described import BODY_ERRORS
from app.api.once import Once
from app.api.problems import responses
from app.api.schemas import Run, Steered
from app.api.turns import Turns
from app.domain.idempotency import KeptAnswer
from app.domain.principals import Principal
from app.runs.service import RunService, StartRun

ACCEPTED = {202: ResponseSpec(Run, generate_examples=False, description="Accepted: the run as it is now")}


@post(
    "/v1/runs",
    opt={SCOPE: "runs", "limited": True},
    status_code=201,
    tags=["runs"],
    summary="Begin a run",
    responses=ACCEPTED
    | responses(*BODY_ERRORS, "disabled", "session_busy", "rate_limited", "queue_full", "budget_exhausted"),
)
async def create_run(data: JSONBody[RunRequest], turns: NamedDependency[Turns]) -> Response[Run]:
    """Runs an agent, and answers with the run once it has ended, whatever its outcome, or waits.

    With `background` the answer comes at once. `Location` is where the run is.
    """
    return await turns.run(await turns.start(_wish(data)), background=data.background)


@post(
    "/v1/runs/{run_id:str}/resume",
    opt={SCOPE: "runs", "limited": True},
    status_code=201,
    tags=["runs"],
    summary="Let a run go on",
    responses=ACCEPTED
    | responses(
        *BODY_ERRORS,
        "disabled",
        "run_finished",
        "agent_changed",
        "session_busy",
        "rate_limited",
        "queue_full",
        "budget_exhausted",
    ),
)
async def resume_run(
    run_id: FromPath[str],
    turns: NamedDependency[Turns],
    data: JSONBody[ResumeRequest | None] = None,
) -> Response[Run]:
    """A run that waits after its `stop_after` goes on. A failed one is taken up by a new run, which uses the steps that it finished.

    Answers as `POST /v1/runs` does. A run that waits for a person's word goes on by that.
    """
    wanted = data or ResumeRequest()
    started = await turns.resume(run_id, stop_after=wanted.stop_after)
    return await turns.run(started, background=wanted.background)


@post(
    "/v1/runs/{run_id:str}/cancel",
    opt={SCOPE: "runs"},
    status_code=202,
    tags=["runs"],
    summary="Stop a run",
    responses={
        200: ResponseSpec(Run, generate_examples=False, description="The run had ended already; it is unchanged")
    }
    | responses(*BODY_ERRORS),
)
async def cancel_run(
    run_id: FromPath[str],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    data: JSONBody[CancelRequest | None] = None,
) -> Response[Run]:
    """Stops the run wherever it is: queued, at a model, in a tool, waiting. Who and why is recorded."""

    async def cancel() -> KeptAnswer:
        run, accepted = await service.cancel(principal, run_id, None if data is None else data.reason)
        return KeptAnswer(status=202 if accepted else 200, body=msgspec.json.encode(run))

    return await once.answer(cancel)


@post(
    "/v1/runs/{run_id:str}/messages",
    opt={SCOPE: "runs"},
    status_code=202,
    tags=["runs"],
    summary="Steer a run",
    responses=responses(*BODY_ERRORS, "run_finished"),
)
async def steer_run(
    run_id: FromPath[str],
    data: JSONBody[SteerRequest],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[Steered]:
    """Gives a live run a message, which its agent reads before its next step."""
    own_id = await once.derived_id("msg")

    async def steer() -> Steered:
        message_id = await service.steer(principal, run_id, data.content, own_id)
        return Steered(message_id=message_id, run_id=run_id)

    return await once.answer(steer, status=202)


def _wish(data: RunRequest) -> StartRun:
    delay = None if data.not_before is None else (data.not_before - datetime.now(UTC)).total_seconds()
    return StartRun(
        agent=data.agent,
        input=data.input,
        session_id=data.session_id,
        user_id=data.user_id,
        context=data.context,
        timeout=data.timeout,
        tags=data.tags,
        on_busy=data.on_busy,
        stop_after=data.stop_after,
        delay=delay if delay is not None and delay > 0 else None,
        priority=data.priority,
        callback_url=data.callback_url,
    )


HANDLERS = [create_run, resume_run, cancel_run, steer_run]
