"""A session's state as the tools of a run use it."""

from __future__ import annotations

from collections.abc import Callable

from app.domain import events as ev
from app.domain.errors import Fenced
from app.domain.messages import JsonObject
from app.domain.principals import Principal
from app.domain.sessions import SessionState, SessionStore
from app.domain.stores import Owned
from app.runs.journal import Entry, Journal
from app.runs.patience import patiently


class RunSessionState:
    """The `SessionStateAccess` of one run. `used`: a tool has asked for the state."""

    def __init__(self, *, store: SessionStore, journal: Journal, owned: Owned) -> None:
        self._store = store
        self._journal = journal
        self._principal = Principal(tenant=owned.tenant)
        self._session_id = owned.session_id
        self._owned = (owned.run_id, owned.epoch)
        self.used = False

    async def get(self) -> JsonObject:
        """The state as it is now; empty at first."""
        return (await self._current()).state

    async def update(self, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
        """Replace the state by what `change` makes of it, and return that. Called again where somebody else was faster."""
        while True:
            current = await self._current()
            state = change(current.state)
            changed = await self._store.put_state(
                self._principal, self._session_id, state, current.version, self._owned
            )
            if changed is not None:
                event = ev.StateChanged(version=changed.version, state=changed.state)
                await self._journal.append([Entry(event)])
                return state
            if (await self._current()).version == current.version:
                raise Fenced(self._owned[0])

    async def _current(self) -> SessionState:
        self.used = True
        state = await patiently(lambda: self._store.state(self._principal, self._session_id))
        if state is None:
            raise LookupError("the session was deleted")
        return state
