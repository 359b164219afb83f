"""Sessions as resources."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from app.api.paging import cursor_after, position
from app.api.problems import responses
from app.api.schemas import MessagePage, MessageView, Session, SessionPage
from app.domain.errors import RequestError
from app.domain.messages import Message
from app.domain.principals import Principal
from app.runs.service import RunService

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="How many at most.")]
PageCursor = Annotated[str | None, QueryParameter(name="cursor", description="`next_cursor` of the page before.")]


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
    tags=["sessions"],
    summary="List sessions",
    responses=responses("invalid_cursor", "validation_error", "internal", "not_ready"),
)
async def list_sessions(
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> SessionPage:
    """Sessions, latest used first."""
    found = await service.sessions(principal, position(page_cursor), limit)
    more = cursor_after(found[-1].updated_at, found[-1].id) if len(found) == limit else None
    return SessionPage(data=found, next_cursor=more)


@get(
    "/v1/sessions/{session_id:str}",
    tags=["sessions"],
    summary="One session",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_session(
    session_id: FromPath[str], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> Session:
    """When it began and was last used, and whose it is."""
    return await service.session(principal, session_id)


@get(
    "/v1/sessions/{session_id:str}/messages",
    tags=["sessions"],
    summary="A session's messages, in pages",
    responses=responses("invalid_cursor", "not_found", "validation_error", "internal", "not_ready"),
)
async def list_messages(
    session_id: FromPath[str],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> MessagePage:
    """The messages since the session's last reset, oldest first."""
    messages = await service.messages(principal, session_id)
    start = 0
    if page_cursor is not None:
        ids = [message.id for _, message in messages]
        if page_cursor not in ids:
            raise RequestError("invalid_cursor", "No message of the session has that id; begin without a cursor.")
        start = ids.index(page_cursor) + 1
    page = messages[start : start + limit]
    more = page[-1][1].id if start + limit < len(messages) else None
    return MessagePage(data=[message_view(*found) for found in page], next_cursor=more)


HANDLERS = [list_sessions, get_session, list_messages]
