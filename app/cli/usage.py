"""`steadyhand usage`: what was used and what it cost, read from the database."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import msgspec

from app.cli.commands import DONE, USAGE
from app.cli.database import reach_database
from app.domain.errors import SteadyhandError
from app.domain.principals import Principal
from app.domain.usage import UsageGroup, UsageQuery, UsageReport
from app.runs.usage import wrong
from app.storage.migrate import migrate, read_migrations, status
from app.storage.postgres.pool import open_pool
from app.storage.postgres.usage import PostgresUsageLedger
from app.wiring.budgets import caps_of
from app.workspace.load import load_workspace

COLUMNS = ("", "requests", "calls", "input", "cached", "output", "USD", "USD/request")


async def run(options: argparse.Namespace) -> int:
    """Exit code 2 where it cannot be grouped by that, or the time is none."""
    query = UsageQuery(group_by=options.group_by, since=options.since, until=options.until)
    if (problem := wrong(query)) is not None:
        option = {"group_by": "--group-by", "to": "--to"}[problem.path]
        print(f"steadyhand: {option} {problem.message.replace('`from`', '--from')}", file=sys.stderr)
        return USAGE
    settings = load_workspace(options.workspace, os.environ).settings
    async with reach_database(settings) as database:
        if database.embedded:
            await migrate(database.direct, read_migrations())
        async with open_pool(database.dsn, pool_min=1, pool_max=1, statement_cache=0) as db:
            if (await status(db, read_migrations())).pending:
                raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
            ledger = PostgresUsageLedger(database=db, caps=caps_of(settings))
            report = await ledger.report(Principal(tenant=options.tenant), query)
    print(msgspec.json.encode(report).decode() if options.json else _table(report))
    return DONE


def _table(report: UsageReport) -> str:
    """A line for each group, then all of them together. `-`: nobody knows; `+`: at least so much, the cost of some calls is not known."""
    rows = [COLUMNS, *(_row(group, group.key or "-") for group in report.data), _row(report.total, "total")]
    widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS))]
    return "\n".join(_line(row, widths) for row in rows)


def _row(group: UsageGroup, key: str) -> tuple[str, ...]:
    usage, average = group.usage, group.average
    counts = (group.requests, group.attempts, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    return (
        key,
        *map(_number, counts),
        _dollars(group.cost_usd, group.unpriced),
        _dollars(average.cost_usd, group.unpriced),
    )


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _dollars(amount: float | None, unpriced: int) -> str:
    return "-" if amount is None else f"{amount:,.6f}" + ("+" if unpriced else "")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.ljust(width) if n == 0 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
