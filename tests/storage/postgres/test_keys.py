from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from app.api.idempotency import REPLAYED, Idempotent, derived_id
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.idempotency import IdempotencyKey, KeptAnswer
from app.domain.principals import Principal
from app.storage.postgres.keys import BATCH, PostgresKeyStore
from app.storage.postgres.pool import Database, open_pool

ANN = Principal(tenant="t1", user="ann")
KEY = IdempotencyKey(method="POST", path="/reset", key="k1", fingerprint="f1")
OTHER_BODY = msgspec.structs.replace(KEY, fingerprint="f2")
DONE = KeptAnswer(status=200, body=b'{"done": true}')
DAY_AGO = "UPDATE idempotency_keys SET created_at = created_at - interval '24 hours 1 second'"


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with open_pool(database) as opened:
        yield opened


@pytest.fixture
def keys(db: Database) -> PostgresKeyStore:
    return PostgresKeyStore(database=db)


async def test_the_first_one_does_it_and_the_others_get_its_answer(keys: PostgresKeyStore) -> None:
    assert await keys.take(ANN, KEY, 30) is True
    assert await keys.take(ANN, KEY, 30) is False
    await keys.keep(ANN, KEY, DONE)
    assert await keys.take(ANN, KEY, 30) == DONE
    assert await keys.take(ANN, KEY, 0) == DONE


async def test_an_answer_may_have_no_body(keys: PostgresKeyStore) -> None:
    assert await keys.take(ANN, KEY, 30) is True
    await keys.keep(ANN, KEY, KeptAnswer(status=204, body=None))
    assert await keys.take(ANN, KEY, 30) == KeptAnswer(status=204, body=None)


@pytest.mark.parametrize("answered", [False, True])
async def test_another_body_is_refused(keys: PostgresKeyStore, answered: bool) -> None:
    await keys.take(ANN, KEY, 0)
    if answered:
        await keys.keep(ANN, KEY, DONE)
    with pytest.raises(RequestError) as caught:
        await keys.take(ANN, OTHER_BODY, 30)
    assert caught.value.code == "idempotency_key_reused"


async def test_everybody_has_keys_of_his_own(keys: PostgresKeyStore) -> None:
    assert await keys.take(ANN, KEY, 30) is True
    for other in (Principal(tenant="t1"), Principal(tenant="t1", user="bob"), Principal(tenant="t2", user="ann")):
        assert await keys.take(other, OTHER_BODY, 30) is True
    for change in ({"method": "DELETE"}, {"path": "/other"}, {"key": "k2"}):
        assert await keys.take(ANN, msgspec.structs.replace(OTHER_BODY, **change), 30) is True


async def test_a_refusal_is_forgotten(keys: PostgresKeyStore) -> None:
    await keys.take(ANN, KEY, 30)
    await keys.drop(ANN, KEY)
    assert await keys.take(ANN, OTHER_BODY, 30) is True
    await keys.drop(ANN, KEY)  # not theirs
    assert await keys.take(ANN, OTHER_BODY, 30) is False
    await keys.keep(ANN, OTHER_BODY, DONE)
    await keys.drop(ANN, OTHER_BODY)  # answered by now
    assert await keys.take(ANN, OTHER_BODY, 30) == DONE


async def test_a_lock_runs_out_with_its_owner(keys: PostgresKeyStore) -> None:
    assert await keys.take(ANN, KEY, 0.001) is True
    await asyncio.wait_for(_taken(keys), 10)
    assert await keys.take(ANN, KEY, 30) is False
    await keys.keep(ANN, KEY, DONE)
    await keys.keep(
        ANN, KEY, KeptAnswer(status=202, body=None)
    )  # the first owner lives after all: the first answer stays
    assert await keys.take(ANN, KEY, 30) == DONE


async def _taken(keys: PostgresKeyStore) -> None:
    while await keys.take(ANN, KEY, 30) is not True:  # noqa: ASYNC110 - the database's clock sets no event
        await asyncio.sleep(0.001)


async def test_an_answer_is_kept_although_the_key_was_dropped(keys: PostgresKeyStore) -> None:
    await keys.take(ANN, KEY, 0)
    await keys.take(ANN, KEY, 30)
    await keys.drop(ANN, KEY)
    await keys.keep(ANN, KEY, DONE)
    assert await keys.take(ANN, KEY, 30) == DONE


async def test_keys_live_for_a_day(keys: PostgresKeyStore, db: Database) -> None:
    await keys.take(ANN, KEY, 30)
    await keys.keep(ANN, KEY, DONE)
    await db.execute(DAY_AGO)
    assert await keys.take(ANN, OTHER_BODY, 30) is True
    assert await keys.take(ANN, OTHER_BODY, 30) is False
    with pytest.raises(RequestError):
        await keys.take(ANN, KEY, 30)
    await db.execute(DAY_AGO)
    assert await keys.take(ANN, OTHER_BODY, 30) is True
    await keys.keep(ANN, OTHER_BODY, DONE)
    assert await keys.take(ANN, OTHER_BODY, 30) == DONE


async def test_a_sweep_takes_old_keys_and_only_those(keys: PostgresKeyStore, db: Database) -> None:
    await db.execute(
        "INSERT INTO idempotency_keys (tenant, owner, method, path, key, fingerprint)"
        " SELECT 't1', '', 'POST', '/reset', 'k' || n, 'f' FROM generate_series(1, $1) n",
        BATCH + 1,
    )
    assert await keys.sweep() == 0
    await db.execute(DAY_AGO)
    await keys.take(ANN, KEY, 30)
    assert await keys.sweep() == BATCH + 1
    assert await keys.take(ANN, KEY, 30) is False


class Work:
    """An action that counts itself and waits until it may end."""

    def __init__(self, result: object = None) -> None:
        self.begun = 0
        self.entered = asyncio.Event()
        self.may_end = asyncio.Event()
        self.result = result

    async def __call__(self) -> object:
        self.begun += 1
        self.entered.set()
        await self.may_end.wait()
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


async def test_fifty_at_once_on_two_replicas_do_it_once(database: str) -> None:
    async with open_pool(database) as one, open_pool(database) as two:
        replicas = [Idempotent(store=PostgresKeyStore(database=each)) for each in (one, two)]
        work = Work({"n": 1})
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            tasks = [group.create_task(replicas[n % 2].answer(ANN, KEY, work, status=202)) for n in range(50)]
            await work.entered.wait()
            work.may_end.set()
        answers = [task.result() for task in tasks]
    assert work.begun == 1
    assert {(a.status_code, a.content) for a in answers} == {(202, b'{"n":1}')}
    assert sorted(a.headers.get(REPLAYED, "") for a in answers) == [""] + ["true"] * 49


async def test_a_refusal_is_everybodys_own(keys: PostgresKeyStore) -> None:
    idempotent = Idempotent(store=keys)
    work = Work(RequestError("session_busy", "busy"))
    work.may_end.set()
    for _ in range(2):
        with pytest.raises(RequestError, match="busy"):
            await idempotent.answer(ANN, KEY, work)
    assert work.begun == 2
    work.result = KeptAnswer(status=202, body=b"[]")
    first = await idempotent.answer(ANN, OTHER_BODY, work)
    again = await idempotent.answer(ANN, OTHER_BODY, work)
    assert (first.status_code, first.content, first.headers) == (202, b"[]", {})
    assert (again.status_code, again.content, again.headers) == (202, b"[]", {REPLAYED: "true"})
    assert work.begun == 3


async def test_one_that_is_cut_off_is_done_again(keys: PostgresKeyStore) -> None:
    work = Work()
    first = asyncio.create_task(Idempotent(store=keys, lock=0.2).answer(ANN, KEY, work))
    await work.entered.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.may_end.set()
    answer = await Idempotent(store=keys).answer(ANN, KEY, work, status=204)
    assert (work.begun, answer.status_code, answer.headers) == (2, 204, {})


async def test_patience_ends(keys: PostgresKeyStore) -> None:
    await keys.take(ANN, KEY, 30)
    with pytest.raises(RequestError) as caught:
        await Idempotent(store=keys, patience=0).answer(ANN, KEY, Work())
    assert caught.value.code == "not_ready"


async def test_without_a_key_it_is_done_each_time(keys: PostgresKeyStore) -> None:
    work = Work({})
    work.may_end.set()
    answers = [await Idempotent(store=keys).answer(ANN, None, work) for _ in range(2)]
    assert work.begun == 2
    assert [(a.content, a.headers) for a in answers] == [(b"{}", {})] * 2


class Fails(PostgresKeyStore):
    """A database that goes away between the action and the record of it."""

    async def keep(self, principal: Principal, key: IdempotencyKey, answer: KeptAnswer) -> None:
        raise DatabaseUnavailable("gone")

    async def drop(self, principal: Principal, key: IdempotencyKey) -> None:
        raise DatabaseUnavailable("gone")


async def test_the_database_may_go_away_afterwards(db: Database) -> None:
    idempotent = Idempotent(store=Fails(database=db))
    work = Work({})
    work.may_end.set()
    assert (await idempotent.answer(ANN, KEY, work)).status_code == 200
    work.result = RequestError("not_found", "none")
    with pytest.raises(RequestError, match="none"):
        await idempotent.answer(ANN, msgspec.structs.replace(KEY, key="k2"), work)


def test_ids_follow_from_the_request() -> None:
    assert derived_id("ses", ANN, KEY) == derived_id("ses", ANN, KEY)
    ids = {
        derived_id("ses", principal, key) for principal in (ANN, Principal(tenant="t1")) for key in (KEY, OTHER_BODY)
    }
    assert len(ids) == 4
    assert all(made.startswith("ses_") and len(made) == 32 for made in ids)
