"""`RunStore` on PostgreSQL. The statements, and why they are as they are, stand in runs.sql."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn
from uuid import UUID, uuid4

import asyncpg
import msgspec

from app.domain.agents import Agent
from app.domain.errors import Fenced, StopCause, UnreadInbox
from app.domain.events import RunFinished, RunStarted, RunWaiting, StoredEvent
from app.domain.idempotency import IdempotencyKey
from app.domain.messages import Usage
from app.domain.observers import EndedRun
from app.domain.principals import Principal
from app.domain.runs import TRANSITIONS, Cancellation, Run, RunFailure, RunStatus
from app.domain.stores import (
    Accepted,
    Appended,
    Head,
    Held,
    NewEvent,
    NewRun,
    Owned,
    Post,
    Refusal,
    Replayed,
    RunFilter,
)
from app.domain.usage import Caps
from app.storage.postgres.approvals import asked_columns
from app.storage.postgres.inbox import Said, Stop, post_of
from app.storage.postgres.pool import Database, queries
from app.storage.postgres.usage import crossings, settlements

NO_CAPS = Caps()
UNBOUNDED = 1_000_000_000
_FIRST_ATTEMPT = msgspec.json.encode(RunStarted(attempt=1))
_decode_agent = msgspec.json.Decoder(Agent).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_failure = msgspec.json.Decoder(RunFailure).decode


class PostgresRunStore:
    """Runs and their journal in PostgreSQL, leased for `lease` seconds to `owner`, the name of this process. Safe for concurrent use."""

    def __init__(
        self, *, database: Database, owner: str, lease: float, caps: Caps = NO_CAPS, per_tenant: int = UNBOUNDED
    ) -> None:
        """`caps`: where nothing is left under them, no run that needs a budget is made. `per_tenant`: runs of one tenant that are
        executed at once, by all processes together.
        """
        self._db = database
        self._per_tenant = per_tenant
        self._caps = caps
        self._owner = owner
        self._lease = lease
        self._sql = queries("runs.sql")

    async def save_agent(self, tenant: str, agent: Agent) -> None:
        await self._db.execute(self._sql["save_agent"], tenant, agent.version, agent.name, msgspec.json.encode(agent))

    async def agent(self, tenant: str, name: str, version: str) -> Agent | None:
        row = await self._db.fetchrow(self._sql["agent"], tenant, name, version)
        return None if row is None else _decode_agent(row["definition"])

    async def start(self, principal: Principal, run: NewRun, *, slot: bool) -> Accepted | Replayed | Refusal:
        slot = slot and run.resumed_from is None
        while True:
            try:
                if run.on_busy == "enqueue" and run.resumed_from is None:
                    row = await self._db.fetchrow(self._sql["start"], *self._start(principal, run, slot))
                else:
                    row = await self._start_alone(principal, run, slot)
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name == "runs_resumed":
                    return (run.key and await self.used(principal, run.key)) or "resumed"
                if error.constraint_name != "runs_one_running":
                    raise
                continue
            except asyncpg.ForeignKeyViolationError as error:
                if error.constraint_name != "idempotency_keys_run":
                    raise
                row = None
            if row is not None:
                return Accepted(
                    status=row["status"], turn=row["turn"], session_epoch=row["session_epoch"],
                    epoch=row["lease_epoch"], last_seq=row["last_seq"], user_id=row["owner"],
                )  # fmt: skip
            return (run.key and await self.used(principal, run.key)) or await self._refusal(principal, run)

    def _start(self, principal: Principal, run: NewRun, slot: bool) -> tuple[object, ...]:
        key = run.key
        return (
            principal.tenant, principal.sees, run.session_id, run.user_id, run.id, run.agent, run.agent_version,
            msgspec.json.encode(run.tags), slot, run.timeout, run.traceparent,
            uuid4(), run.created, uuid4(), _FIRST_ATTEMPT, self._owner, self._lease, run.stop_after, run.delay,
            run.priority, run.callback_url, run.resumed_from, run.on_busy == "reject",
            *((None, None, None, None) if key is None else (key.method, key.path, key.key, key.fingerprint)),
            principal.user or "", run.needs_usd, self._caps.tenant, self._caps.user,
            msgspec.json.encode(run.experiments) if run.experiments else None, run.shadow_of, self._per_tenant,
        )  # fmt: skip

    async def _start_alone(self, principal: Principal, run: NewRun, slot: bool) -> asyncpg.Record | None:
        """As the plain statement, but what it sees of the session is how the session is."""
        async with self._db.transaction() as connection:
            await connection.execute(self._sql["lock_session"], principal.tenant, run.session_id)
            row = await connection.fetchrow(self._sql["start"], *self._start(principal, run, slot))
            if row is not None and run.resumed_from is not None:
                await connection.fetchrow(self._sql["copy_steps"], run.resumed_from, run.id)
        return row

    async def used(self, principal: Principal, key: IdempotencyKey) -> Replayed | None:
        row = await self._db.fetchrow(
            self._sql["key"], principal.tenant, principal.user or "", key.method, key.path, key.key, key.fingerprint
        )
        return None if row is None else Replayed(row["run_id"], row["same"])

    async def _refusal(self, principal: Principal, run: NewRun) -> Refusal:
        """Why the statement made nothing."""
        if run.needs_usd is not None:
            scope = await self._db.fetchval(
                self._sql["exhausted"],
                principal.tenant,
                run.session_id,
                run.user_id,
                None if self._caps.tenant is None else self._caps.tenant - run.needs_usd,
                None if self._caps.user is None else self._caps.user - run.needs_usd,
            )
            if scope is not None:
                return "tenant_budget" if scope == "tenant" else "user_budget"
        if run.on_busy == "reject":
            row = await self._db.fetchrow(
                self._sql["owns"], principal.tenant, principal.sees, run.session_id, run.user_id
            )
            if row is not None:
                return "session_busy"
        return "not_found"

    async def claim(self, at_once: Mapping[str, int]) -> tuple[Owned, bytes] | Literal["full"] | None:
        agents, numbers = list(at_once), list(at_once.values())
        while True:
            try:
                row = await self._db.fetchrow(
                    self._sql["claim"], self._owner, self._lease, uuid4(), self._per_tenant, agents, numbers
                )
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "runs_one_running":
                    raise
                continue
            if row is None:
                return None
            if row["run_id"] is not None:
                return _owned(row)
            if row["created"] is None:
                return "full"

    async def recover(self, max_attempts: int, spared: Sequence[str]) -> tuple[Owned, bytes] | None:
        row = await self._db.fetchrow(
            self._sql["recover"], self._owner, self._lease, max_attempts, uuid4(), list(spared)
        )
        return None if row is None else _owned(row)

    async def shadows_welcome(self, most: int) -> bool:
        welcome: bool = await self._db.fetchval(self._sql["shadows_welcome"], most)
        return welcome

    async def due(self) -> int:
        return int((await self._db.execute(self._sql["due"])).rpartition(" ")[2])

    async def revive(self, limited: Collection[str]) -> int:
        return int((await self._db.execute(self._sql["revive"], list(limited))).rpartition(" ")[2])

    async def owners(self) -> list[str]:
        return [row["lease_owner"] for row in await self._db.fetch(self._sql["owners"])]

    async def orphan(self, owners: Sequence[str]) -> int:
        return int((await self._db.execute(self._sql["orphan"], list(owners))).rpartition(" ")[2])

    async def extend(self, epochs: Sequence[tuple[str, int]]) -> list[Held]:
        rows = await self._db.fetch(
            self._sql["extend"], [run_id for run_id, _ in epochs], [epoch for _, epoch in epochs], self._lease
        )
        return [Held(**row) for row in rows]

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> Appended:
        row = await self._db.fetchrow(
            self._sql["append"], *_written(run_id, epoch, events), self._lease, settlements(events)
        )
        if row is None:
            raise Fenced(run_id)
        return Appended(row["inbox"], crossings(row["crossed"]))

    async def finish(
        self, run_id: str, epoch: int, events: Sequence[NewEvent], finished: RunFinished, inbox: int | None
    ) -> bool:
        assert finished.status in TRANSITIONS["running"]
        row = await self._db.fetchrow(
            self._sql["finish"], *_written(run_id, epoch, events),
            finished.status, finished.stop_reason, msgspec.json.encode(finished.output), _json(finished.error),
            finished.iterations, _json(finished.usage), finished.cost_usd, finished.degraded, finished.cached,
            finished.outcome_unknown, inbox, settlements(events),
        )  # fmt: skip
        if row is None:
            await self._refused(run_id, epoch, events)
        more: bool = row["more"]
        return more

    async def park(
        self,
        run_id: str,
        epoch: int,
        events: Sequence[NewEvent],
        waiting: RunWaiting,
        inbox: int,
    ) -> None:
        row = await self._db.fetchrow(
            self._sql["park"], *_written(run_id, epoch, events), waiting.stop_reason, waiting.iterations,
            _json(waiting.usage), waiting.outcome_unknown, inbox,
            *asked_columns(waiting.approvals), datetime.now(UTC), waiting.cost_usd, settlements(events),
        )  # fmt: skip
        if row is None:
            await self._refused(run_id, epoch, events)

    async def _refused(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> NoReturn:
        """Raise what a refused write means."""
        ours = await self._db.fetchval(self._sql["stands"], run_id, epoch, events[0].seq - 1)
        raise UnreadInbox(run_id) if ours else Fenced(run_id)

    async def release(self, run_id: str, epoch: int) -> None:
        if await self._db.fetchrow(self._sql["release"], run_id, epoch) is None:
            raise Fenced(run_id)

    async def end_unowned(
        self, run_id: str, events: Sequence[NewEvent], finished: RunFinished, statuses: Sequence[RunStatus]
    ) -> EndedRun | None:
        assert all(finished.status in TRANSITIONS[status] for status in statuses)
        async with self._db.transaction() as connection:
            await connection.fetchrow(self._sql["session_of"], run_id)
            row = await connection.fetchrow(
                self._sql["end_unowned"], run_id, [event.id for event in events], [event.name for event in events],
                [event.payload for event in events], finished.status, finished.stop_reason, _json(finished.error),
                list(statuses), events[0].seq - 1, finished.iterations, _json(finished.usage), finished.cost_usd,
                finished.cancellation.by if finished.cancellation else None,
            )  # fmt: skip
        return None if row is None else EndedRun(run_id=run_id, session_id=row["session_id"], agent=row["agent"])

    async def requeue(
        self, principal: Principal, run_id: str, stop_after: str | None, key: IdempotencyKey | None
    ) -> bool:
        try:
            async with self._db.transaction() as connection:
                await connection.fetchrow(self._sql["session_of"], run_id)
                row = await connection.fetchrow(self._sql["requeue"], run_id, stop_after, "stopped_after_step")
                if row is not None and key is not None:
                    await connection.execute(
                        self._sql["keep_key"], principal.tenant, principal.user or "",
                        key.method, key.path, key.key, key.fingerprint, run_id,
                    )  # fmt: skip
        except asyncpg.UniqueViolationError:  # the same request, a moment before: the run waits again already
            return False
        return row is not None

    async def stored_ids(self, run_id: str, seqs: Sequence[int]) -> list[UUID]:
        return [row["id"] for row in await self._db.fetch(self._sql["stored_ids"], run_id, list(seqs))]

    async def post_message(self, run_id: str, message_id: str, content: str) -> bool:
        return await self._post(run_id, message_id, "message", Said(content=content)) is not None

    async def post_stop(self, run_id: str, cause: StopCause, cancellation: Cancellation) -> RunStatus | None:
        return await self._post(run_id, "stop", "stop", Stop(cause=cause, cancellation=cancellation))

    async def _post(self, run_id: str, post_id: str, kind: str, payload: msgspec.Struct) -> RunStatus | None:
        with suppress(asyncpg.UniqueViolationError):  # the same came at the same moment
            await self._db.execute(self._sql["post"], run_id, post_id, kind, msgspec.json.encode(payload))
        status: RunStatus | None = await self._db.fetchval(self._sql["status"], run_id)
        return status if status in ("queued", "running", "waiting") else None

    async def inbox(self, run_id: str, after: int) -> list[Post]:
        return [post_of(row) for row in await self._db.fetch(self._sql["inbox"], run_id, after)]

    async def events(self, run_id: str, after: int, limit: int) -> list[StoredEvent]:
        rows = await self._db.fetch(self._sql["events"], run_id, after, limit)
        return [StoredEvent(**row) for row in rows]

    async def head(self, principal: Principal, run_id: str) -> Head | None:
        row = await self._db.fetchrow(self._sql["head"], run_id, principal.tenant, principal.sees)
        return None if row is None else Head(**row)

    async def heads(self, run_ids: Sequence[str]) -> dict[str, Head]:
        rows = await self._db.fetch(self._sql["heads"], list(run_ids))
        return {row["id"]: Head(status=row["status"], last_seq=row["last_seq"], inbox=row["inbox"]) for row in rows}

    async def run(self, principal: Principal, run_id: str) -> Run | None:
        row = await self._db.fetchrow(self._sql["run"], run_id, principal.tenant, principal.sees)
        return None if row is None else _run(row)

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]:
        at, last = wanted.before or (None, None)
        rows = await self._db.fetch(
            self._sql["runs"], principal.tenant, principal.sees, wanted.agent, wanted.status, wanted.session_id,
            wanted.user_id, wanted.since, wanted.until, at, last, wanted.limit, wanted.shadow_of,
        )  # fmt: skip
        return [_run(row) for row in rows]

    async def queue(self) -> tuple[int, float, dict[str, int]]:
        rows = await self._db.fetch(self._sql["queue"])
        ages = [row["oldest_age"] for row in rows]
        return sum(row["depth"] for row in rows), max(ages, default=0.0), {row["tenant"]: row["stored"] for row in rows}


def _json(value: msgspec.Struct | None) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _written(run_id: str, epoch: int, events: Sequence[NewEvent]) -> tuple[object, ...]:
    """The arguments that every write of an owner begins with."""
    return (
        run_id, epoch, events[0].seq - 1, events[-1].seq,
        [event.seq for event in events], [event.id for event in events], [event.name for event in events],
        [event.payload for event in events], [event.private for event in events],
    )  # fmt: skip


def _owned(row: Any) -> tuple[Owned, bytes]:
    fields = dict(row)
    created = fields.pop("created")
    return Owned(**fields), created


def _run(row: Any) -> Run:
    fields = dict(row)
    fields["tags"] = msgspec.json.decode(fields["tags"])
    fields["output"] = None if fields["output"] is None else msgspec.json.decode(fields["output"])
    fields["experiments"] = {} if fields["experiments"] is None else msgspec.json.decode(fields["experiments"])
    fields["error"] = None if fields["error"] is None else _decode_failure(fields["error"])
    fields["usage"] = None if fields["usage"] is None else _decode_usage(fields["usage"])
    return Run(**fields)
