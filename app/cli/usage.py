"""`steadyhand usage`: what was used and what it cost, read from the database."""

from __future__ import annotations

import argparse
import os
import sys

import msgspec

from app.cli.columns import columns
from app.cli.commands import DONE, USAGE
from app.cli.database import open_database
from app.domain.principals import Principal
from app.domain.usage import UsageGroup, UsageQuery, UsageReport
from app.runs.usage import wrong
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
    async with open_database(settings) as db:
        ledger = PostgresUsageLedger(database=db, caps=caps_of(settings))
        report = await ledger.report(Principal(tenant=options.tenant), query)
    print(msgspec.json.encode(report).decode() if options.json else _table(report))
    return DONE


def _table(report: UsageReport) -> str:
    """A line for each group, then all of them together. `-`: nobody knows; `+`: at least so much, the cost of some calls is not known."""
    rows = [COLUMNS, *(_row(group, group.key or "-") for group in report.data), _row(report.total, "total")]
    return columns(rows, numbers=True)


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
