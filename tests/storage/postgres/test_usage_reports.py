"""What the ledger tells, and what it reads for that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.domain.messages import Usage
from app.domain.principals import ANONYMOUS, Principal
from app.domain.usage import UsageQuery
from tests.storage.postgres.books import SQL, Books, spending


async def test_reports(books: Books) -> None:
    for run_id, user, agent, tags in (
        ("r1", "ann", "a", {"team": "x"}),
        ("r2", "bob", "b", {"team": "y"}),
        ("r3", None, "b", {}),
    ):
        await books.run(run_id, user=user, agent=agent, tags=tags)
    for run_id, model, cost, basis in (
        ("r1", "m", "0.5", "provider"),
        ("r1", "n", "0.25", "estimated"),
        ("r2", "m", None, "provider"),
        ("r3", "m", "0.125", "provider"),
    ):
        opening = books.opening(run_id, "0.1", model=model)
        await books.ledger.open(opening)
        used = Usage(input_tokens=100, cached_input_tokens=60, output_tokens=10)
        await books.settle(run_id, opening.id, cost, used, basis)
    await books.ledger.open(books.opening("r1", "0.1"))  # under way
    await books.db.execute("UPDATE usage SET started_at = '2026-05-31T23:59:59Z'")
    await books.ledger.record(spending(cost="1", user="bob", at=datetime(2026, 3, 31, 23, 59, tzinfo=UTC), agent="c"))

    async def report(group_by: str, principal: Principal = ANONYMOUS, **more: Any) -> dict[str | None, Any]:
        found = await books.ledger.report(principal, UsageQuery(group_by=group_by, **more))
        return {g.key: (g.requests, g.attempts, g.cost_usd, g.unpriced, g.estimated) for g in found.data} | {
            "total": (found.total.requests, found.total.attempts, found.total.cost_usd)
        }

    total = (4, 5, 1.875)
    assert await report("agent") == {
        "a": (1, 2, 0.75, 0, 1), "b": (2, 2, 0.125, 1, 0), "c": (1, 1, 1.0, 0, 0), "total": total,
    }  # fmt: skip
    assert await report("model") == {"p/m": (4, 4, 1.625, 1, 0), "p/n": (1, 1, 0.25, 0, 1), "total": total}
    assert await report("user") == {
        "ann": (1, 2, 0.75, 0, 1), "bob": (2, 2, 1.0, 1, 0), None: (1, 1, 0.125, 0, 0), "total": total,
    }  # fmt: skip
    assert await report("tag:team") == {
        "x": (1, 2, 0.75, 0, 1), "y": (1, 1, None, 1, 0), None: (2, 2, 1.125, 0, 0), "total": total,
    }  # fmt: skip
    assert await report("day") == {
        "2026-03-31": (1, 1, 1.0, 0, 0), "2026-05-31": (3, 4, 0.875, 1, 1), "total": total,
    }  # fmt: skip
    assert set(await report("month")) == {"2026-03", "2026-05", "total"}
    assert (await report("day", since=datetime(2026, 4, 1, tzinfo=UTC)))["total"] == (3, 4, 0.875)
    assert (await report("day", until=datetime(2026, 4, 1, tzinfo=UTC)))["total"] == (1, 1, 1.0)
    assert set(await report("user", Principal(tenant="default", user="ann"))) == {"ann", "total"}
    assert await report("day", Principal(tenant="other")) == {"total": (0, 0, None)}
    whole = (await books.ledger.report(ANONYMOUS, UsageQuery())).total
    assert whole.usage == Usage(input_tokens=407, cached_input_tokens=240, output_tokens=43)
    assert (whole.average.input_tokens, whole.average.cost_usd) == (101.75, 0.46875)


FILL = """
INSERT INTO usage (
    id, tenant, kind, run_id, agent, tags, route, provider, model, number, month, started_at, settled_at, basis, outcome, cost_usd
)
SELECT gen_random_uuid(), 'default', 'run', 'run_' || n / 3, 'a', '{}', 'r', 'p', 'm', 1, '2026-11-01',
    '2026-01-01'::timestamptz + n * interval '10 minutes', clock_timestamp(), 'provider', 'ok', 0.001
FROM generate_series(1, 40000) AS n
"""


async def test_a_report_reads_its_time_and_a_recovery_its_run(books: Books) -> None:
    """By the indexes made for it, not past all that there ever was."""
    await books.db.execute(FILL)
    await books.db.execute("ANALYZE usage")
    week = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC)
    for name, arguments, index in (
        ("report", ("default", None, *week, "day", None), "usage_by_time"),
        ("lost", ("run_7", 2), "usage_open"),
    ):
        plan = await books.db.fetch(f"EXPLAIN {SQL[name]}", *arguments)
        assert index in (told := "\n".join(row[0] for row in plan)), told
        assert "Seq Scan" not in told
