"""`RunStore` on PostgreSQL. The statements, and why they are as they are, stand in runs.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from app.domain.agents import Agent
from app.domain.errors import Fenced
from app.domain.events import RunFinished, RunStarted, StoredEvent
from app.domain.messages import Usage
from app.domain.observers import EndedRun
from app.domain.principals import Principal
from app.domain.runs import TRANSITIONS, Run, RunFailure
from app.domain.stores import Accepted, Head, NewEvent, NewRun, Owned, RunFilter, Session
from app.storage.postgres.pool import Database, queries

_FIRST_ATTEMPT = msgspec.json.encode(RunStarted(attempt=1))
_decode_agent = msgspec.json.Decoder(Agent).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_failure = msgspec.json.Decoder(RunFailure).decode


class PostgresRunStore:
    """Runs, sessions and their journal in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("runs.sql")

    async def save_agent(self, tenant: str, agent: Agent) -> None:
        await self._db.execute(self._sql["save_agent"], tenant, agent.version, agent.name, msgspec.json.encode(agent))

    async def agent(self, tenant: str, name: str, version: str) -> Agent | None:
        row = await self._db.fetchrow(self._sql["agent"], tenant, name, version)
        return None if row is None else _decode_agent(row["definition"])

    async def start(self, principal: Principal, run: NewRun, *, slot: bool) -> Accepted | None:
        arguments = (
            principal.tenant, principal.user, run.session_id, run.user_id, run.id, run.agent, run.agent_version,
            msgspec.json.encode(run.tags), slot, run.timeout, run.traceparent,
            uuid4(), run.created, uuid4(), _FIRST_ATTEMPT,
        )  # fmt: skip
        while True:
            try:
                row = await self._db.fetchrow(self._sql["start"], *arguments)
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "runs_one_running":
                    raise
                continue
            if row is None:
                return None
            return Accepted(
                status=row["status"], turn=row["turn"], session_epoch=row["session_epoch"],
                epoch=row["lease_epoch"], last_seq=row["last_seq"], user_id=row["owner"],
            )  # fmt: skip

    async def claim(self) -> tuple[Owned, bytes] | None:
        while True:
            try:
                row = await self._db.fetchrow(self._sql["claim"], uuid4())
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "runs_one_running":
                    raise
                continue
            if row is None:
                return None
            fields = dict(row)
            created = fields.pop("created")
            return Owned(**fields), created

    async def take_over_running(self, spared: Sequence[str], age: float) -> list[Owned]:
        rows = await self._db.fetch(self._sql["take_over_running"], list(spared), age)
        return [Owned(**row) for row in rows]

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> None:
        await self._write(self._sql["append"], run_id, epoch, events)

    async def finish(self, run_id: str, epoch: int, events: Sequence[NewEvent], finished: RunFinished) -> None:
        assert finished.status in TRANSITIONS["running"]
        await self._write(
            self._sql["finish"], run_id, epoch, events,
            finished.status, finished.stop_reason, msgspec.json.encode(finished.output), _json(finished.error),
            finished.iterations, _json(finished.usage), finished.cost_usd, finished.degraded, finished.cached,
        )  # fmt: skip

    async def _write(self, sql: str, run_id: str, epoch: int, events: Sequence[NewEvent], *more: object) -> None:
        done = await self._db.execute(
            sql, run_id, epoch, events[0].seq - 1, events[-1].seq,
            [event.seq for event in events], [event.id for event in events], [event.name for event in events],
            [event.payload for event in events], [event.private for event in events], *more,
        )  # fmt: skip
        if done == "INSERT 0 0":
            raise Fenced(run_id)

    async def finish_queued(self, run_id: str, payload: bytes, finished: RunFinished) -> tuple[int, EndedRun] | None:
        assert finished.status in TRANSITIONS["queued"]
        row = await self._db.fetchrow(
            self._sql["finish_queued"], run_id, uuid4(), payload,
            finished.status, finished.stop_reason, _json(finished.error),
        )  # fmt: skip
        if row is None:
            return None
        return row["last_seq"], EndedRun(run_id=run_id, session_id=row["session_id"], agent=row["agent"])

    async def stored_ids(self, run_id: str, seqs: Sequence[int]) -> list[UUID]:
        return [row["id"] for row in await self._db.fetch(self._sql["stored_ids"], run_id, list(seqs))]

    async def history(self, tenant: str, session_id: str, epoch: int, before_turn: int) -> list[list[StoredEvent]]:
        runs: list[list[StoredEvent]] = []
        current = None
        for run_id, seq, name, payload, private in await self._db.fetch(
            self._sql["history"], tenant, session_id, epoch, before_turn
        ):
            if run_id != current:
                current = run_id
                runs.append([])
            runs[-1].append(StoredEvent(seq=seq, name=name, payload=payload, private=private))
        return runs

    async def events(self, run_id: str, after: int, limit: int) -> list[StoredEvent]:
        rows = await self._db.fetch(self._sql["events"], run_id, after, limit)
        return [StoredEvent(**row) for row in rows]

    async def head(self, principal: Principal, run_id: str) -> Head | None:
        row = await self._db.fetchrow(self._sql["head"], run_id, principal.tenant, principal.user)
        return None if row is None else Head(**row)

    async def run(self, principal: Principal, run_id: str) -> Run | None:
        row = await self._db.fetchrow(self._sql["run"], run_id, principal.tenant, principal.user)
        return None if row is None else _run(row)

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]:
        at, last = wanted.before or (None, None)
        rows = await self._db.fetch(
            self._sql["runs"], principal.tenant, principal.user, wanted.agent, wanted.status, wanted.session_id,
            wanted.user_id, wanted.since, wanted.until, at, last, wanted.limit,
        )  # fmt: skip
        return [_run(row) for row in rows]

    async def session(self, principal: Principal, session_id: str) -> tuple[Session, int] | None:
        row = await self._db.fetchrow(self._sql["session"], principal.tenant, principal.user, session_id)
        if row is None:
            return None
        fields = dict(row)
        epoch = fields.pop("epoch")
        return Session(**fields), epoch

    async def sessions(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Session]:
        at, last = before or (None, None)
        rows = await self._db.fetch(self._sql["sessions"], principal.tenant, principal.user, at, last, limit)
        return [Session(**row) for row in rows]

    async def reset(self, principal: Principal, session_id: str) -> list[str] | None:
        row = await self._db.fetchrow(self._sql["reset"], principal.tenant, principal.user, session_id)
        return None if row is None else list(row["live"])

    async def queue(self) -> tuple[int, float]:
        row = await self._db.fetchrow(self._sql["queue"])
        assert row is not None
        return row["depth"], row["oldest_age"]


def _json(value: msgspec.Struct | None) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _run(row: Any) -> Run:
    fields = dict(row)
    fields["tags"] = msgspec.json.decode(fields["tags"])
    fields["output"] = None if fields["output"] is None else msgspec.json.decode(fields["output"])
    fields["error"] = None if fields["error"] is None else _decode_failure(fields["error"])
    fields["usage"] = None if fields["usage"] is None else _decode_usage(fields["usage"])
    return Run(**fields)
