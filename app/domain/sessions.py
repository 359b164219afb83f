"""Sessions: conversations, which are turns one after another, and a state beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from app.domain.events import StoredEvent
from app.domain.messages import JsonObject, Message
from app.domain.principals import Principal
from app.domain.runs import RunStatus


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as clients see it."""

    id: str
    user_id: str | None
    created_at: datetime
    updated_at: datetime


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object that a session keeps beside its messages; `version` counts its changes from 0."""

    state: JsonObject
    version: int


class Base(msgspec.Struct, frozen=True):
    """What a fork begins with: messages, and the values by placeholder that models may have named in them."""

    messages: tuple[Message, ...] = ()
    placeholders: dict[str, str] = {}


class SessionStore(Protocol):
    """Sessions: their messages, their state, their turns. Every method may raise `DatabaseUnavailable`; see `stores` for principals."""

    async def history(
        self, tenant: str, session_id: str, epoch: int, before_turn: int
    ) -> tuple[Base, list[list[StoredEvent]]]:
        """What the session began with, and the events that make the messages of its earlier runs, one list a run, in turn order.

        Of runs that another one has resumed there is only what was redacted in them: placeholders are the session's.
        """
        ...

    async def session(self, principal: Principal, session_id: str) -> tuple[Session, int] | None:
        """The session and its epoch."""
        ...

    async def sessions(
        self, principal: Principal, before: tuple[datetime, str] | None, limit: int
    ) -> list[Session]: ...

    async def live(self, principal: Principal, session_id: str, before_turn: int) -> list[tuple[str, RunStatus]]:
        """The session's live runs of earlier turns, oldest first."""
        ...

    async def reset(self, principal: Principal, session_id: str) -> list[str] | None:
        """Begin the session's next epoch. The ids of the live runs of the one before, or None: no such session."""
        ...

    async def delete(self, principal: Principal, session_id: str) -> bool:
        """The session, its runs and all that belongs to them are gone. False: there was none."""
        ...

    async def fork(
        self, principal: Principal, session_id: str, user_id: str | None, base: Base, state: JsonObject
    ) -> Session | None:
        """A new session that begins with that. None: there is one of that id already."""
        ...

    async def shadow(self, tenant: str, run_id: str, session_id: str, base: Base) -> bool:
        """A hidden session of that run's user that begins with that and the state of the run's session.

        It is gone with the run. False: there is no such run any more.
        """
        ...

    async def turn_of(self, principal: Principal, session_id: str, run_id: str) -> int | None:
        """Which turn of the session's current epoch that run was."""
        ...

    async def state(self, principal: Principal, session_id: str) -> SessionState | None: ...

    async def put_state(
        self,
        principal: Principal,
        session_id: str,
        state: JsonObject,
        version: int | None,
        owned: tuple[str, int] | None = None,
    ) -> SessionState | None:
        """Replace the state. None where `version` is given and not the current one, there is no such session, or the run of
        `owned` does not run under that epoch any more."""
        ...
