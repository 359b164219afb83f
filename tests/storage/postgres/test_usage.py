"""The ledger on a real PostgreSQL: all counters or none, a row settled once, what dead owners left, and reports."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.domain.errors import Fenced
from app.domain.messages import Usage
from app.domain.stores import Accepted
from app.domain.usage import Caps
from app.storage.postgres.pool import open_pool
from tests.storage.postgres.books import LEVELS, NOW, Books, spending


async def test_a_row_is_written_reserved_and_settled_once(books: Books) -> None:
    await books.run("r1", user="ann", tags={"team": "x"})
    opening = books.opening("r1", "3")
    assert (await books.ledger.open(opening)).refused is None
    (row,) = await books.rows()
    assert (row["tenant"], row["owner"], row["session_id"], row["agent"], row["agent_version"]) == (
        "default", "ann", "s-r1", "a", "v",
    )  # fmt: skip
    assert (row["tags"], row["basis"], row["settled_at"], row["reserved_usd"], row["kind"]) == (
        b'{"team":"x"}', None, None, 3, "run",
    )  # fmt: skip
    both = {("tenant", ""): (0, 3), ("user", "ann"): (0, 3)}
    assert await books.counters() == both
    assert (await books.ledger.open(opening)).refused is None  # whose first answer was lost
    assert await books.counters() == both
    assert len(await books.rows()) == 1
    used = Usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, cache_write_1h_tokens=0)
    for cost in ("1.0000000000001", "2"):
        await books.settle("r1", opening.id, cost, used)
    (row,) = await books.rows()
    assert (row["basis"], row["cost_usd"], row["input_tokens"], row["reasoning_tokens"]) == (
        "provider", Decimal("1.0000000000001"), 10, None,
    )  # fmt: skip
    spent = (Decimal("1.0000000000001"), 0)
    assert await books.counters() == {("tenant", ""): spent, ("user", "ann"): spent}


@pytest.mark.parametrize(("user", "usd", "want"), [("ann", "4.000001", "user"), (None, "10.000001", "tenant")])
async def test_a_refusal_names_its_scope_and_leaves_nothing(
    books: Books, user: str | None, usd: str, want: str
) -> None:
    await books.run("r1", user=user)
    before = await books.counters()
    assert (await books.ledger.open(books.opening("r1", usd))).refused == want
    assert await books.rows() == []
    assert {key: counts for key, counts in (await books.counters()).items() if counts != (0, 0)} == before


async def test_who_does_not_own_the_run_opens_nothing(books: Books) -> None:
    await books.run("r1")
    for run_id, epoch in (("r1", 0), ("r1", 2), ("r2", 1)):
        with pytest.raises(Fenced):
            await books.ledger.open(books.opening(run_id, epoch=epoch))
    assert (await books.rows(), await books.counters()) == ([], {})


async def test_what_has_no_price_needs_no_budget(books: Books) -> None:
    await books.run("r1")
    await books.ledger.open(books.opening("r1", "10"))
    unpriced = books.opening("r1", "0")
    assert (await books.ledger.open(unpriced)).refused is None
    await books.settle("r1", unpriced.id, None)
    assert (await books.rows())[-1]["cost_usd"] is None
    assert await books.counters() == {("tenant", ""): (0, 10)}


async def test_at_most_what_fits_is_let_in_at_once(database: str) -> None:
    async with open_pool(database, pool_max=16) as one, open_pool(database, pool_max=16) as two:
        caps = Caps(tenant=Decimal(7), levels=LEVELS)
        both = [Books(one, caps), Books(two, caps)]
        for n in range(64):
            await both[0].run(f"r{n}", user=f"u{n % 5}")
        opened = await asyncio.gather(*(both[n % 2].ledger.open(both[0].opening(f"r{n}")) for n in range(64)))
        assert sum(found.refused is None for found in opened) == 7
        assert (await both[0].counters())["tenant", ""] == (0, 7)
        assert sum(reserved for (scope, _), (_, reserved) in (await both[0].counters()).items() if scope == "user") == 7


@pytest.mark.parametrize("seed", range(4))
async def test_counters_hold_whatever_happens(books: Books, seed: int) -> None:
    """Never more than the cap is spent and reserved, but for what calls cost beyond their reservation; nothing stays reserved."""
    chance = random.Random(seed)
    for n in range(6):
        await books.run(f"r{n}", user=chance.choice([None, "ann", "bob"]))
    opened: dict[UUID, tuple[str, Decimal]] = {}
    beyond = Decimal(0)
    for _ in range(60):
        if chance.random() < 0.6 or not opened:
            opening = books.opening(f"r{chance.randrange(6)}", str(chance.randrange(1, 200)) + "e-2")
            before = await books.counters()
            if (await books.ledger.open(opening)).refused is None:
                opened[opening.id] = opening.run_id, opening.reserved_usd
            else:
                after = await books.counters()
                assert {k: v for k, v in after.items() if v != (0, 0)} == {
                    k: v for k, v in before.items() if v != (0, 0)
                }
        else:
            id = chance.choice(list(opened))
            run_id, reserved = opened.pop(id)
            cost = reserved * chance.randrange(0, 130) / 100
            beyond += max(Decimal(0), cost - reserved)
            await books.settle(run_id, id, str(cost))
        for (scope, _), (spent, reserved) in (await books.counters()).items():
            assert spent + reserved <= (10 if scope == "tenant" else 4) + beyond
    for id, (run_id, _) in opened.items():
        await books.settle(run_id, id, "0.01")
    counters, rows = await books.counters(), await books.rows()
    assert {reserved for _, reserved in counters.values()} == {0}
    assert counters["tenant", ""][0] == sum(row["cost_usd"] for row in rows)
    for user in ("ann", "bob"):
        if ("user", user) in counters:
            assert counters["user", user][0] == sum(row["cost_usd"] for row in rows if row["owner"] == user)


async def test_each_level_is_told_once_by_whoever_comes_to_it(books: Books) -> None:
    await books.run("r1", user="ann")
    told = []
    for cost in ("1.9", "0.2", "0.1", "1.5", "0.2"):
        opening = books.opening("r1", "0.2")
        near = (await books.ledger.open(opening)).near
        crossed = (await books.settle("r1", opening.id, cost)).crossed
        told += [(c.scope, c.key, c.level, c.spent_usd, c.cap_usd) for c in crossed]
        assert near or not crossed or Decimal(cost) > opening.reserved_usd  # which nobody can foresee
    assert told == [
        ("user", "ann", Decimal("0.5"), Decimal("2.1"), 4),
        ("user", "ann", Decimal("0.8"), Decimal("3.7"), 4),
    ]
    await books.ledger.record(spending(cost="6.5", user=None))
    assert [(c.scope, c.level) for c in await books.ledger.untold()] == [
        ("tenant", Decimal("0.5")),
        ("tenant", Decimal("0.8")),
        ("tenant", Decimal(1)),
    ]
    assert await books.ledger.untold() == []


async def test_what_older_owners_left_is_known_and_settled_by_the_next(books: Books) -> None:
    await books.run("r1")
    first, second = books.opening("r1"), books.opening("r1", number=2)
    for opening in (first, second):
        await books.ledger.open(opening)
    await books.settle("r1", first.id, "0.5")
    assert await books.ledger.lost("r1", 1) == []
    (lost,) = await books.ledger.lost("r1", 2)
    assert (lost.id, lost.number, lost.input_tokens, lost.input_usd) == (second.id, 2, 100, Decimal("0.25"))


@pytest.mark.parametrize(
    ("change", "swept"),
    [
        ("UPDATE runs SET status = 'succeeded'", 1),
        ("UPDATE runs SET lease_epoch = 2", 0),  # its new owner's
        ("DELETE FROM runs", 1),
        ("UPDATE runs SET lease_until = clock_timestamp()", 0),
    ],
)
async def test_what_nobody_settles_is_swept(books: Books, change: str, swept: int) -> None:
    await books.run("r1", user="ann")
    await books.ledger.open(books.opening("r1"))
    await books.db.execute(change)
    assert await books.ledger.sweep() == 0  # it may be on its way
    await books.db.execute("UPDATE usage SET started_at = started_at - interval '2 minutes'")
    assert await books.ledger.sweep() == swept
    (row,) = await books.rows()
    if swept:
        assert (row["basis"], row["outcome"], row["input_tokens"], row["output_tokens"], row["cost_usd"]) == (
            "abandoned", "abandoned", 100, None, Decimal("0.25"),
        )  # fmt: skip
    assert (await books.counters())["user", "ann"] == ((Decimal("0.25"), 0) if swept else (0, 1))


async def test_an_attempt_outside_of_a_run_is_charged_once(books: Books) -> None:
    done = spending(cost="100", tags={"team": "x"})
    assert [await books.ledger.record(done) for _ in range(2)] == [True, False]
    assert await books.counters() == {("tenant", ""): (100, 0), ("user", "ann"): (100, 0)}
    assert await books.run("r1", user="ann", needs_usd=Decimal(0)) == "tenant_budget"
    assert isinstance(await books.run("r2", user="ann", needs_usd=None), Accepted)


async def test_a_run_needs_something_left_of_its_users_month(books: Books) -> None:
    await books.ledger.record(spending(cost="4"))
    assert await books.run("r1", user="ann", needs_usd=Decimal(0)) == "user_budget"
    assert isinstance(await books.run("r2", user="bob", needs_usd=Decimal(0)), Accepted)
    assert isinstance(await books.run("r3", needs_usd=Decimal(0)), Accepted)


async def test_last_month_is_another_month(books: Books) -> None:
    await books.ledger.record(spending(cost="50", at=NOW.replace(day=1) - timedelta(days=1)))
    assert isinstance(await books.run("r1", user="ann", needs_usd=Decimal(0)), Accepted)
