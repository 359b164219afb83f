"""A turn that comes while the one before it ends: whatever the order of the statements, it is claimed."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import msgspec

from app.domain.events import RunFinished
from app.domain.principals import ANONYMOUS
from app.domain.stores import Accepted, NewEvent, NewRun
from app.storage.postgres.pool import open_pool
from app.storage.postgres.runs import PostgresRunStore
from tests.storage.postgres.test_queue import run

END = RunFinished(status="succeeded", stop_reason="completed", output="", usage=None, cost_usd=None, iterations=1)


def turn(number: int) -> NewRun:
    return msgspec.structs.replace(run(number), session_id="s")


async def test_a_turn_that_is_queued_and_looked_at_while_its_predecessor_ends_is_claimed(database: str) -> None:
    async with open_pool(database) as db:
        store = PostgresRunStore(database=db, owner="me", lease=30.0)
        assert isinstance(await store.start(ANONYMOUS, turn(0), slot=True), Accepted)
        end = [NewEvent(seq=3, id=uuid4(), name="run.finished", payload=b"{}")]
        async with db.transaction() as held:
            # The end waits for this lock with a snapshot that knows no second turn.
            await held.execute("SELECT FROM runs WHERE id = 'run_new0' FOR UPDATE")
            ending = asyncio.create_task(store.finish("run_new0", 1, end, END, None))
            while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (await store.start(ANONYMOUS, turn(1), slot=True)).status == "queued"  # type: ignore[union-attr]
            assert await store.claim({}) is None
        assert await ending
        claimed = await store.claim({})
        assert isinstance(claimed, tuple)
        assert claimed[0].run_id == "run_new1"


async def test_a_run_that_is_queued_while_a_claim_is_on_its_way_comes_whole(database: str) -> None:
    async with open_pool(database) as db:
        store = PostgresRunStore(database=db, owner="me", lease=30.0)
        async with db.transaction() as held:
            # The claim waits for this lock with a snapshot that knows no run at all.
            await held.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
            claiming = asyncio.create_task(store.claim({}))
            while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await PostgresRunStore(database=held, owner="me", lease=30.0).start(ANONYMOUS, turn(0), slot=False)
        claimed = await claiming
        assert isinstance(claimed, tuple)
        assert (claimed[0].run_id, claimed[1]) == ("run_new0", b"{}")


async def test_what_fell_out_of_the_queue_comes_back(database: str) -> None:
    async with open_pool(database) as db:
        store = PostgresRunStore(database=db, owner="me", lease=30.0)
        await store.start(ANONYMOUS, turn(0), slot=False)
        assert await store.revive(()) == 0
        await db.execute("UPDATE sessions SET ready_rank = NULL")
        await db.execute("UPDATE runs SET queued_at = queued_at - interval '1 minute'")
        assert await store.claim({}) is None
        assert await store.revive(()) == 1
        assert await store.claim({}) is not None
        assert await store.revive(()) == 0
