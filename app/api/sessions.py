"""Sessions as resources."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody

from app.api.authentication import SCOPE
from app.api.bodies import ForkRequest, StateRequest
from app.api.described import BODY_ERRORS
from app.api.once import Once
from app.api.paging import Limit, PageCursor, cursor_after, position
from app.api.problems import responses
from app.api.schemas import MessagePage, MessageView, Session, SessionPage, SessionState
from app.domain.errors import FieldError, RequestError
from app.domain.messages import Message
from app.domain.principals import Principal
from app.runs.sessions import SessionService

IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", description="The `ETag` of the state that this one replaces.")
]


class _Versioned(msgspec.Struct):
    """As much of a `SessionState` as its `ETag` needs."""

    version: int


_decode_version = msgspec.json.Decoder(_Versioned).decode
_decode_session = msgspec.json.Decoder(Session).decode
_TAG = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)


def message_view(run_id: str, message: Message) -> MessageView:
    """A message as clients see it."""
    return MessageView(
        id=message.id,
        role=message.role,
        content=message.content,
        run_id=run_id,
        tool_calls=message.tool_calls,
        call_id=message.call_id,
        name=message.name,
        is_error=message.is_error,
    )


@get(
    "/v1/sessions",
    opt={SCOPE: "runs"},
    tags=["sessions"],
    summary="List sessions",
    responses=responses("invalid_cursor", "validation_error", "internal", "not_ready"),
)
async def list_sessions(
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> SessionPage:
    """Sessions, latest used first."""
    found = await sessions.sessions(principal, position(page_cursor), limit)
    more = cursor_after(found[-1].updated_at, found[-1].id) if len(found) == limit else None
    return SessionPage(data=found, next_cursor=more)


@get(
    "/v1/sessions/{session_id:str}",
    opt={SCOPE: "runs"},
    tags=["sessions"],
    summary="One session",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_session(
    session_id: FromPath[str], sessions: NamedDependency[SessionService], principal: NamedDependency[Principal]
) -> Session:
    """When it began and was last used, and whose it is."""
    return await sessions.session(principal, session_id)


@get(
    "/v1/sessions/{session_id:str}/messages",
    opt={SCOPE: "runs"},
    tags=["sessions"],
    summary="A session's messages, in pages",
    responses=responses("invalid_cursor", "not_found", "validation_error", "internal", "not_ready"),
)
async def list_messages(
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> MessagePage:
    """The messages since the session's last reset, oldest first."""
    messages = await sessions.messages(principal, session_id)
    start = 0
    if page_cursor is not None:
        ids = [message.id for _, message in messages]
        if page_cursor not in ids:
            raise RequestError("invalid_cursor", "No message of the session has that id; begin without a cursor.")
        start = ids.index(page_cursor) + 1
    page = messages[start : start + limit]
    more = page[-1][1].id if start + limit < len(messages) else None
    return MessagePage(data=[message_view(*found) for found in page], next_cursor=more)


@delete(
    "/v1/sessions/{session_id:str}",
    opt={SCOPE: "runs"},
    status_code=204,
    tags=["sessions"],
    summary="Delete a session",
    responses=responses("not_found", "validation_error", "idempotency_key_reused", "internal", "not_ready"),
)
async def delete_session(
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[None]:
    """Cancels what is going on in the session. It, its runs and all that belongs to them are gone."""
    return await once.answer(lambda: sessions.delete(principal, session_id), status=204)


@get(
    "/v1/sessions/{session_id:str}/state",
    opt={SCOPE: "runs"},
    tags=["sessions"],
    summary="A session's state",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_state(
    session_id: FromPath[str], sessions: NamedDependency[SessionService], principal: NamedDependency[Principal]
) -> Response[SessionState]:
    """The JSON object that the session keeps beside its messages; `ETag` names its version."""
    state = await sessions.state(principal, session_id)
    return Response(state, status_code=200, headers={"ETag": f'"{state.version}"'})


@put(
    "/v1/sessions/{session_id:str}/state",
    opt={SCOPE: "runs"},
    tags=["sessions"],
    summary="Replace a session's state",
    responses=responses(*BODY_ERRORS, "state_conflict"),
)
async def put_state(
    session_id: FromPath[str],
    data: JSONBody[StateRequest],
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    if_match: IfMatch = None,
) -> Response[SessionState]:
    """Replaces the whole object. With a `version`, or an `If-Match`, only if nobody changed it since."""
    version = _expected(if_match, data.version)

    response = await once.answer(lambda: sessions.put_state(principal, session_id, data.state, version))
    response.headers["ETag"] = f'"{_decode_version(response.content).version}"'
    return response


@post(
    "/v1/sessions/{session_id:str}/fork",
    opt={SCOPE: "runs"},
    status_code=201,
    tags=["sessions"],
    summary="Fork a session",
    responses=responses(*BODY_ERRORS, "session_busy"),
)
async def fork_session(
    session_id: FromPath[str],
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    data: JSONBody[ForkRequest | None] = None,
) -> Response[Session]:
    """Makes a new session that begins with this one's messages and state, and goes its own way from there."""
    wanted = data or ForkRequest()
    made_up = await once.derived_id("ses") if wanted.session_id is None else None

    async def fork() -> Session:
        try:
            return await sessions.fork(
                principal,
                session_id,
                new_id=wanted.session_id or made_up,
                after_run=wanted.after_run,
                user_id=wanted.user_id,
            )
        except RequestError as error:
            if error.code != "session_busy" or made_up is None:
                raise
            # Only this very request can have made it, in an attempt whose answer was lost.
            return await sessions.session(principal.acting_for(wanted.user_id), made_up)

    response = await once.answer(fork, status=201)
    response.headers["Location"] = f"/v1/sessions/{_decode_session(response.content).id}"
    return response


def _expected(if_match: str | None, version: int | None) -> int | None:
    """The version that must be the current one; None: whichever is. Raises `RequestError` validation_error."""
    if if_match is None or if_match.strip() == "*":
        return version
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None:
        raise _wrong_tag('must be the ETag of a state, such as "3"')
    if version is not None and version != int(tag[1]):
        raise _wrong_tag("is not the `version` of the body")
    return int(tag[1])


def _wrong_tag(message: str) -> RequestError:
    return RequestError("validation_error", f"`If-Match` {message}.", [FieldError("If-Match", message)])


HANDLERS = [
    list_sessions, get_session, list_messages, delete_session, get_state, put_state, fork_session,
]  # fmt: skip
