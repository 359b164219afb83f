"""Runs as resources: what they are, what they did, what they say."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream

from app.api import sse
from app.api.authentication import SCOPE, credential_of
from app.api.described import event_stream
from app.api.paging import Limit, PageCursor, cursor_after, no_nul, position
from app.api.problems import request_id, responses
from app.api.schemas import EventPage, EventView, Run, RunPage, StepList
from app.api.streams import MEDIA_TYPE, Content, OpenStreams
from app.api.times import TIME, time_of
from app.domain.errors import FieldError, RequestError
from app.domain.principals import Principal
from app.domain.runs import RunStatus
from app.domain.stores import RunFilter
from app.runs.service import RunService
from app.runs.stream import Cursor, parse_cursor

PAGE = 500
_QUALITY = re.compile(r"0(\.\d*)?|1(\.0*)?", re.ASCII)
LOG_EXAMPLE = (
    'retry: 1000\n\nid: 1\nevent: run.created\ndata: {"run_id":"run_1","session_id":"ses_1","agent":"assistant"}\n\n'
    'id: 2.5\nevent: message.delta\ndata: {"message_id":"msg_1","offset":0,"text":"Hello"}\n\n'
    'id: 5\nevent: run.finished\ndata: {"status":"succeeded","stop_reason":"completed","output":"Hello"}\n\n'
)


@get(
    "/v1/runs",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="List runs",
    responses=responses("invalid_cursor", "validation_error", "internal", "not_ready"),
)
async def list_runs(
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    agent: Annotated[str | None, QueryParameter(description="Only of this agent.")] = None,
    run_status: Annotated[RunStatus | None, QueryParameter(name="status", description="Only in this state.")] = None,
    session_id: Annotated[str | None, QueryParameter(description="Only of this session.")] = None,
    user_id: Annotated[str | None, QueryParameter(description="Only of this user.")] = None,
    shadow_of: Annotated[
        str | None, QueryParameter(description="The shadow runs of this run, which no other list has.")
    ] = None,
    since: Annotated[
        str | None, QueryParameter(name="from", description="Created at or after.", schema_extra=TIME)
    ] = None,
    until: Annotated[str | None, QueryParameter(name="to", description="Created before.", schema_extra=TIME)] = None,
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> RunPage:
    """Runs, newest first."""
    wanted = RunFilter(
        agent=agent,
        status=run_status,
        session_id=session_id,
        user_id=user_id,
        shadow_of=shadow_of,
        since=time_of("from", since),
        until=time_of("to", until),
        before=position(page_cursor),
        limit=limit,
    )
    no_nul(agent, session_id, user_id, shadow_of)
    found = await service.runs(principal, wanted)
    more = cursor_after(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return RunPage(data=found, next_cursor=more)


@get(
    "/v1/runs/{run_id:str}",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="One run",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_run(
    run_id: FromPath[str], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> Run:
    """Its state, and its outcome once there is one."""
    return await service.run(principal, run_id)


@get(
    "/v1/runs/{run_id:str}/steps",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="A run's steps",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_steps(
    run_id: FromPath[str], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> StepList:
    """Every model call and tool call so far, with times and tokens."""
    return StepList(await service.steps(principal, run_id))


@get(
    "/v1/runs/{run_id:str}/events",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="A run's events",
    responses=event_stream(
        "The log from the cursor on, to its end. With `Accept: application/json` a page", LOG_EXAMPLE
    )
    | responses("invalid_cursor", "not_found", "validation_error", "queue_full", "internal", "not_ready"),
)
async def get_events(
    run_id: FromPath[str],
    request: Request[Any, Any, Any],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    streams: NamedDependency[OpenStreams],
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="The last id seen.")] = None,
    after: Annotated[str | None, QueryParameter(description="The same as `Last-Event-ID`, which wins.")] = None,
    view: Annotated[Literal["log", "quick"], QueryParameter(description="quick: the names of /chat/stream.")] = "log",
    limit: Annotated[
        int | None, QueryParameter(ge=1, le=1000, description=f"Events of a JSON page at most; {PAGE} by default.")
    ] = None,
) -> Stream | Response[bytes]:
    """Streams the run's log as server-sent events: first what there is, then what happens, to `run.finished`.

    With an `Accept` that prefers `application/json` a page of stored events, without the growing text.
    """
    cursor = parse_cursor(last_event_id if last_event_id is not None else after)
    if _prefers_json(request.headers.get("accept", "")):
        if view == "quick":
            raise _refused("view", "is for the stream: a page has the log's own names")
        return await _page(service, principal, run_id, cursor, PAGE if limit is None else limit)
    if limit is not None:
        raise _refused("limit", "is for a page (`Accept: application/json`): a stream goes on to the run's end")

    async def begin() -> Content:
        frames = sse.log_frames
        if view == "quick":
            run = await service.run(principal, run_id)
            frames = sse.QuickView(
                run_id=run_id,
                agent_version=run.agent_version,
                request_id=request_id(request),
                experiments=run.experiments,
            ).frames
        return sse.encode(await service.events(principal, run_id, cursor), frames)

    return await streams.open(begin, tenant=principal.tenant, credential=credential_of(request))


def _prefers_json(accept: str) -> bool:
    """Whether an `Accept` header asks for JSON before server-sent events; `*/*` and no header at all do not."""
    ours = _rank(accept, "application/json")
    return ours[0] > 0 and ours > _rank(accept, MEDIA_TYPE)


def _rank(accept: str, media_type: str) -> tuple[float, int, int]:
    """What the most specific range says that fits the type: its quality, how specific it is, how early it stands."""
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    found = [(0, 0, 0.0)]
    for place, part in enumerate(accept.lower().split(",")):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in ranges:
            quality = next((given[2:] for given in parameters if given.startswith("q=")), "1")
            found.append((ranges.index(name) + 1, -place, float(quality) if _QUALITY.fullmatch(quality) else 1.0))
    specific, early, best = max(found)
    return best, specific, early


def _refused(name: str, message: str) -> RequestError:
    return RequestError("validation_error", f"`{name}` {message}.", [FieldError(name, message)])


async def _page(service: RunService, principal: Principal, run_id: str, cursor: Cursor, limit: int) -> Response[bytes]:
    events, last = await service.journal(principal, run_id, cursor.seq, limit)
    data = [
        EventView(
            id=str(event.seq),
            event=event.name,
            at=datetime.fromtimestamp(event.at, UTC),
            data=msgspec.Raw(event.payload),
        )
        for event in events
    ]
    return Response(msgspec.json.encode(EventPage(data=data, next=str(last))), media_type="application/json")


HANDLERS = [list_runs, get_run, get_steps, get_events]
