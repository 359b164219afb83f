"""All that the outside may do with sessions."""

from __future__ import annotations

import asyncio
from datetime import datetime

from app.domain import events as ev
from app.domain.errors import FieldError, RequestError
from app.domain.fold import Conversation, conversation, placeholders
from app.domain.hints import Hints
from app.domain.messages import JsonObject, Message
from app.domain.principals import Principal
from app.domain.sessions import Base, Session, SessionState, SessionStore
from app.runs.birth import session_id_of
from app.runs.live import Feed, Feeds
from app.runs.stops import Stops

END_WITHIN = 2.0
"""Seconds that a reset waits for what it stopped."""
EVERY_TURN = 2**31 - 1
BASE = ""
"""The run of messages that a fork began with: none of its own."""


class SessionService:
    """Reads, resets, forks and deletes sessions. Safe for concurrent use."""

    def __init__(self, *, store: SessionStore, feeds: Feeds, stops: Stops, broadcast: Hints) -> None:
        self._store = store
        self._feeds = feeds
        self._stops = stops
        self._broadcast = broadcast

    async def session(self, principal: Principal, session_id: str) -> Session:
        """A session. Raises `RequestError` not_found."""
        session, _ = await self._session(principal, session_id)
        return session

    async def sessions(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Session]:
        """A page of sessions, latest used first."""
        return await self._store.sessions(principal, before, limit)

    async def messages(self, principal: Principal, session_id: str) -> list[tuple[str, Message]]:
        """The session's messages since its last reset, each with its run's id, also those of a run that is going on."""
        _, epoch = await self._session(principal, session_id)
        base, runs = await self._store.history(principal.tenant, session_id, epoch, EVERY_TURN)
        messages = [(BASE, message) for message in base.messages]
        for events in runs:
            run = Conversation()
            run_id = ""
            for stored in events:
                event = ev.decode(stored)
                if isinstance(event, ev.RunCreated):
                    run_id = event.run_id
                run.apply(event, stored.private)
            messages += [(run_id, m) for m in run.messages if m.id not in run.rejected]
        return messages

    async def reset(self, principal: Principal, session_id: str) -> None:
        """Begin the session anew: its history is empty, its live runs are cancelled and have ended (a tool may take some seconds more)."""
        live = await self._store.reset(principal, session_id)
        if live is None:
            raise _no_session(session_id)
        await self._end(live)

    async def _end(self, live: list[str]) -> None:
        feeds = [self._feeds.open(run_id) for run_id in live]
        for run_id in reversed(live):  # the last turn first: none may begin because the one before it ended
            await self._stops.stop(run_id, "reset")
        await asyncio.gather(*(_ended(feed) for feed in feeds))

    async def delete(self, principal: Principal, session_id: str) -> None:
        """The session is gone, with its runs, which are stopped. Raises `RequestError` not_found."""
        await self._session(principal, session_id)
        live = [run_id for run_id, _ in await self._store.live(principal, session_id, EVERY_TURN)]
        await self._end(live)
        if not await self._store.delete(principal, session_id):
            raise _no_session(session_id)
        for run_id in live:
            self._broadcast.posted(run_id)
            self._broadcast.wrote(run_id)

    async def fork(
        self, principal: Principal, session_id: str, *, new_id: str | None, after_run: str | None, user_id: str | None
    ) -> Session:
        """A new session that begins with this one's messages, up to and with those of `after_run`, and with its state.

        Raises `RequestError`: not_found for session or run, session_busy where `new_id` exists, validation_error; and forbidden
        for a `user_id` that the principal may not name.
        """
        principal.acting_for(user_id)
        session, epoch = await self._session(principal, session_id)
        forked = session_id_of(new_id)
        turn = EVERY_TURN
        if after_run is not None:
            found = await self._store.turn_of(principal, session_id, after_run)
            if found is None:
                detail = f"Session {session_id!r} has no run {after_run!r} since its last reset."
                raise RequestError("not_found", detail, [FieldError("after_run", "is not a run of this session")])
            turn = found + 1
        base, runs = await self._store.history(principal.tenant, session_id, epoch, turn)
        state = await self.state(principal, session_id)
        owner = user_id or principal.user or session.user_id
        begins = Base((*base.messages, *conversation(runs)), base.placeholders | placeholders(runs))
        made = await self._store.fork(principal, forked, owner, begins, state.state)
        if made is None:
            raise RequestError("session_busy", f"There is a session {forked!r} already: choose another id.")
        return made

    async def state(self, principal: Principal, session_id: str) -> SessionState:
        """The session's state, empty at first. Raises `RequestError` not_found."""
        state = await self._store.state(principal, session_id)
        if state is None:
            raise _no_session(session_id)
        return state

    async def put_state(
        self, principal: Principal, session_id: str, state: JsonObject, version: int | None
    ) -> SessionState:
        """Replace the state, where it is that version (None: whatever it is).

        Raises `RequestError`: not_found, state_conflict.
        """
        changed = await self._store.put_state(principal, session_id, state, version)
        if changed is None:
            current = await self.state(principal, session_id)
            detail = f"The state is at version {current.version}, not {version}: read it, and change that."
            raise RequestError("state_conflict", detail)
        return changed

    async def _session(self, principal: Principal, session_id: str) -> tuple[Session, int]:
        found = await self._store.session(principal, session_id)
        if found is None:
            raise _no_session(session_id)
        return found


async def _ended(feed: Feed) -> None:
    """Returns when the run has ended, or takes too long for it."""
    try:
        outcome = await feed.outcome(END_WITHIN)
        while isinstance(outcome, ev.RunWaiting):
            feed.resumed()
            outcome = await feed.outcome(END_WITHIN)
    except TimeoutError:
        pass


def _no_session(session_id: str) -> RequestError:
    return RequestError("not_found", f"There is no session {session_id!r}.")
