"""The fence and the lease where they are: whoever lost a run can neither write to it nor keep it from others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from app.domain import events as ev
from app.domain.errors import Fenced
from app.domain.principals import ANONYMOUS
from app.domain.stores import Accepted, NewEvent, NewRun, Owned
from app.runs.ids import new_id
from app.storage.postgres.pool import Database, open_pool
from app.storage.postgres.runs import PostgresRunStore

LEASE = 30.0


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with open_pool(database) as opened:
        yield opened


@pytest.fixture
def store(db: Database) -> PostgresRunStore:
    return PostgresRunStore(database=db, owner="test", lease=LEASE)


async def _born(store: PostgresRunStore) -> str:
    """A run that is ours under epoch 1, with two events."""
    run_id = new_id("run")
    created = ev.RunCreated(
        run_id=run_id, session_id=run_id, agent="a", agent_version="1", message_id="m", input="hello"
    )
    accepted = await store.start(
        ANONYMOUS,
        NewRun(
            id=run_id,
            session_id=run_id,
            user_id=None,
            agent="a",
            agent_version="1",
            tags={},
            created=msgspec.json.encode(created),
        ),
        slot=True,
    )
    assert isinstance(accepted, Accepted)
    assert (accepted.status, accepted.epoch, accepted.last_seq) == ("running", 1, 2)
    return run_id


def _event(seq: int) -> NewEvent:
    return NewEvent(seq=seq, id=uuid4(), name="message.reset", payload=b'{"message_id":"m"}')


FINISHED = ev.RunFinished(
    status="succeeded", stop_reason="completed", output="x", usage=None, cost_usd=None, iterations=1
)
WAITING = ev.RunWaiting(stop_reason="stopped_after_step")


async def _taken_over(store: PostgresRunStore, db: Database, run_id: str) -> Owned:
    """The run as its next owner has it, whose events are as many as the owner before knows of."""
    await store.orphan(await store.owners())
    found = await store.recover(3, [])
    assert found is not None
    # The new owner's own event is taken away: what is left between the two is the epoch.
    await db.execute("DELETE FROM events WHERE run_id = $1 AND seq = 3", run_id)
    await db.execute("UPDATE runs SET last_seq = 2 WHERE id = $1", run_id)
    return found[0]


async def _stands(db: Database, run_id: str) -> Any:
    return tuple(
        await db.fetchrow(
            "SELECT status, lease_epoch, last_seq, (SELECT count(*) FROM events WHERE run_id = $1) FROM runs WHERE id = $1",
            run_id,
        )
        or ()
    )


async def test_who_lost_a_run_writes_nothing(store: PostgresRunStore, db: Database) -> None:
    run_id = await _born(store)
    owned = await _taken_over(store, db, run_id)
    assert owned.epoch > 1
    before = await _stands(db, run_id)
    for write in (
        lambda: store.append(run_id, 1, [_event(3)]),
        lambda: store.finish(run_id, 1, [_event(3)], FINISHED, 0),
        lambda: store.park(run_id, 1, [_event(3)], WAITING, 0),
        lambda: store.release(run_id, 1),
    ):
        with pytest.raises(Fenced):
            await write()
        assert await _stands(db, run_id) == before
    assert await store.extend([(run_id, 1)]) == []
    assert [held.run_id for held in await store.extend([(run_id, owned.epoch)])] == [run_id]
    await store.append(run_id, owned.epoch, [_event(3)])


async def test_who_handed_a_run_back_writes_nothing(store: PostgresRunStore, db: Database) -> None:
    run_id = await _born(store)
    await store.release(run_id, 1)
    with pytest.raises(Fenced):
        await store.append(run_id, 1, [_event(3)])
    handed_back = await _stands(db, run_id)
    assert handed_back[1] > 1
    claimed = await store.claim({})
    assert isinstance(claimed, tuple)
    assert (claimed[0].run_id, claimed[0].failures, claimed[0].attempt) == (run_id, 0, 2)
    assert claimed[0].epoch > handed_back[1]
    await db.execute("DELETE FROM events WHERE run_id = $1 AND seq = 3", run_id)
    await db.execute("UPDATE runs SET last_seq = 2 WHERE id = $1", run_id)
    for epoch in (1, handed_back[1]):
        with pytest.raises(Fenced):
            await store.append(run_id, epoch, [_event(3)])


async def test_events_follow_each_other(store: PostgresRunStore) -> None:
    """The right owner writes no event twice and none after a gap."""
    run_id = await _born(store)
    await store.append(run_id, 1, [_event(3)])
    for seq in (3, 5):
        with pytest.raises(Fenced):
            await store.append(run_id, 1, [_event(seq)])
    assert [event.seq for event in await store.events(run_id, 0, 10)] == [1, 2, 3]


@pytest.mark.parametrize("by", ["append", "heartbeat"])
async def test_a_lease_is_extended(store: PostgresRunStore, db: Database, by: str) -> None:
    run_id = await _born(store)
    await db.execute("UPDATE runs SET lease_until = clock_timestamp() + interval '1 second'")
    if by == "append":
        await store.append(run_id, 1, [_event(3)])
    else:
        await store.extend([(run_id, 1)])
    left = await db.fetchval("SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM runs")
    assert LEASE - 5 < left <= LEASE


async def test_a_lease_that_holds_is_respected(store: PostgresRunStore) -> None:
    await _born(store)
    assert await store.recover(3, []) is None
