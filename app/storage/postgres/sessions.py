"""`SessionStore` on PostgreSQL; the statements stand in sessions.sql."""

from __future__ import annotations

from datetime import datetime

import msgspec

from app.domain.errors import DatabaseUnavailable
from app.domain.events import StoredEvent
from app.domain.messages import JsonObject, Message
from app.domain.numbers import number
from app.domain.principals import Principal
from app.domain.runs import RunStatus
from app.domain.sessions import Base, Session, SessionState
from app.storage.postgres.pool import Database, queries

_decode_state = msgspec.json.Decoder(JsonObject, float_hook=number).decode
_decode_base = msgspec.json.Decoder(list[Message] | Base).decode


def _base(stored: str | None) -> Base:
    """Without placeholders it is stored as the list of its messages."""
    base = Base() if stored is None else _decode_base(stored)
    return base if isinstance(base, Base) else Base(tuple(base))


def _stored(base: Base) -> bytes:
    return msgspec.json.encode(base if base.placeholders else base.messages)


class PostgresSessionStore:
    """Sessions in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("sessions.sql")

    async def history(
        self, tenant: str, session_id: str, epoch: int, before_turn: int
    ) -> tuple[Base, list[list[StoredEvent]]]:
        base = await self._db.fetchval(self._sql["base"], tenant, session_id, epoch)
        runs: list[list[StoredEvent]] = []
        current = None
        for run_id, seq, name, payload, private in await self._db.fetch(
            self._sql["history"], tenant, session_id, epoch, before_turn
        ):
            if run_id != current:
                current = run_id
                runs.append([])
            runs[-1].append(StoredEvent(seq=seq, name=name, payload=payload, private=private))
        return _base(base), runs

    async def session(self, principal: Principal, session_id: str) -> tuple[Session, int] | None:
        row = await self._db.fetchrow(self._sql["session"], principal.tenant, principal.sees, session_id)
        if row is None:
            return None
        fields = dict(row)
        epoch = fields.pop("epoch")
        return Session(**fields), epoch

    async def sessions(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Session]:
        at, last = before or (None, None)
        rows = await self._db.fetch(self._sql["sessions"], principal.tenant, principal.sees, at, last, limit)
        return [Session(**row) for row in rows]

    async def live(self, principal: Principal, session_id: str, before_turn: int) -> list[tuple[str, RunStatus]]:
        rows = await self._db.fetch(self._sql["live"], principal.tenant, principal.sees, session_id, before_turn)
        return [(row["id"], row["status"]) for row in rows]

    async def reset(self, principal: Principal, session_id: str) -> list[str] | None:
        row = await self._db.fetchrow(self._sql["reset"], principal.tenant, principal.sees, session_id)
        return None if row is None else list(row["live"])

    async def delete(self, principal: Principal, session_id: str) -> bool:
        for last in (False, False, True):
            try:
                done = await self._db.execute(self._sql["delete"], principal.tenant, principal.sees, session_id)
            except DatabaseUnavailable:  # a run of it was just ending: one of the two had to give way
                if last:
                    raise
            else:
                break
        return done != "DELETE 0"

    async def fork(
        self, principal: Principal, session_id: str, user_id: str | None, base: Base, state: JsonObject
    ) -> Session | None:
        row = await self._db.fetchrow(
            self._sql["fork"],
            principal.tenant,
            session_id,
            user_id,
            _stored(base),
            msgspec.json.encode(state),
        )
        return None if row is None else Session(**row)

    async def shadow(self, tenant: str, run_id: str, session_id: str, base: Base) -> bool:
        made = await self._db.fetchval(self._sql["shadow"], tenant, run_id, session_id, _stored(base))
        return made is not None

    async def turn_of(self, principal: Principal, session_id: str, run_id: str) -> int | None:
        turn: int | None = await self._db.fetchval(
            self._sql["turn_of"], principal.tenant, principal.sees, session_id, run_id
        )
        return turn

    async def state(self, principal: Principal, session_id: str) -> SessionState | None:
        row = await self._db.fetchrow(self._sql["state"], principal.tenant, principal.sees, session_id)
        if row is None:
            return None
        return SessionState(state={} if row["state"] is None else _decode_state(row["state"]), version=row["version"])

    async def put_state(
        self,
        principal: Principal,
        session_id: str,
        state: JsonObject,
        version: int | None,
        owned: tuple[str, int] | None = None,
    ) -> SessionState | None:
        row = await self._db.fetchrow(
            self._sql["put_state"], principal.tenant, principal.sees, session_id, msgspec.json.encode(state), version,
            *(owned or (None, None)),
        )  # fmt: skip
        return None if row is None else SessionState(state=state, version=row["version"])
