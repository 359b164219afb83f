"""`steadyhand usage`: its table, and what it refuses before it looks for a database."""

from __future__ import annotations

import pytest

from app.cli.commands import run
from app.cli.usage import _table
from app.domain.messages import Usage
from app.domain.usage import UsageAverage, UsageGroup, UsageReport


def group(key: str | None, cost: float | None, unpriced: int = 0, requests: int = 2) -> UsageGroup:
    return UsageGroup(
        key=key, requests=requests, attempts=3, usage=Usage(input_tokens=12_345, output_tokens=42), cost_usd=cost,
        unpriced=unpriced, estimated=0, abandoned=0,
        average=UsageAverage(input_tokens=1.0, output_tokens=1.0, cost_usd=None if cost is None else cost / requests),
    )  # fmt: skip


def test_a_line_for_each_group_and_one_for_all() -> None:
    report = UsageReport(data=[group("ann", 1.5), group(None, None, 3)], total=group(None, 1.5, 3))
    assert _table(report).splitlines() == [
        "       requests  calls   input  cached  output        USD  USD/request",
        "ann           2      3  12,345       -      42   1.500000     0.750000",
        "-             2      3  12,345       -      42          -            -",
        "total         2      3  12,345       -      42  1.500000+    0.750000+",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--group-by", "colour"], "--group-by must be one of day, month, agent, model, user, or tag:NAME"),
        (["--group-by", "tag:"], "--group-by must be one of"),
        (["--from", "2026-02-01", "--to", "2026-01-01T00:00:00+01:00"], "--to must be after --from"),
        (["--to", "soon"], "'soon' is no time such as 2026-11-21"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage", *words]) == 2
    assert said in capsys.readouterr().err
