"""`uv run python -m ops.faults`: kills the process of a run at every place there is, and shows what became of the run. Linux only.

Each topology has a product of its own around one database: `single` is one process, `split` an API and two workers; in
`people`, with an approval and a message on the way, all of them are killed; in `lossy`, one process, the connections to PostgreSQL are lost at every statement, not the process; in `drained` it is told
to end in peace. A cut is passed when the run ends as if nothing had happened: see `tests/faults/runs.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from app.cli.embedded.cluster import embedded_postgres
from app.storage.migrate import migrate, read_migrations
from tests.faults.attended import Attended
from tests.faults.cuts import Cut
from tests.faults.house import TOPOLOGIES, house
from tests.faults.matrix import Cutter, How, Outcome, cuts
from tests.faults.private import FAST
from tests.faults.replicas import Kind
from tests.faults.runs import Scripted
from tests.faults.storms import Storm

KINDS: dict[str, tuple[Kind, ...]] = TOPOLOGIES | {
    "lossy": ("all",),
    "drained": TOPOLOGIES["split"],
    "people": TOPOLOGIES["split"],
}
HOW: dict[str, How] = {"lossy": "lose", "drained": "drain"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.faults", description=__doc__)
    parser.add_argument("--topology", choices=KINDS, action="append", help="this one only; may be given several times")
    parser.add_argument(
        "--site", choices=("model", "effect", "statement"), action="append", help="cuts of this kind only"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of the statements every N-th (default 1: all)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole matrix so many times (default 1)")
    parser.add_argument(
        "--storms",
        type=int,
        default=0,
        metavar="N",
        help="instead of the matrix N runs in which several things go wrong",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first storm; each has the next number (default 1)")
    parser.add_argument(
        "--json", type=Path, default=Path("dist/faults.json"), help="where the outcomes go (default dist/faults.json)"
    )
    return parser.parse_args()


async def measured(options: argparse.Namespace, topology: str, dsn: str, folder: Path) -> list[Outcome]:
    """The outcomes of that topology's cuts, printed as they come."""
    found: list[Outcome] = []
    async with house(folder, dsn, *KINDS[topology]) as opened:
        if options.storms:
            storm = Storm(house=opened)
            for seed in range(options.seed, options.seed + options.storms):
                found.append(await storm.blow(seed))
                print(line(topology, found[-1]), flush=True)
            return found
        runs: type[Scripted] = Scripted
        if topology == "people":
            runs = Attended
            opened.proxy.counted = lambda pid: True
        cutter = Cutter(house=opened, how=HOW.get(topology, "kill"), runs=runs)
        statements = max([await cutter.uncut() for _ in range(3)])
        sites = ["statement"] if topology in ("lossy", "people") else options.site
        wanted = [cut for cut in cuts(statements, options.every) if sites is None or cut.site in sites] * options.repeat
        print(f"{topology}: {len(wanted)} cuts, {statements} statements a run", flush=True)
        for cut in wanted:
            outcome = await _cut(cutter, cut)
            found.append(outcome)
            print(line(topology, outcome), flush=True)
    return found


async def _cut(cutter: Cutter, cut: Cut) -> Outcome:
    try:
        return await cutter.cut(cut)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
        return Outcome(cut=str(cut), reached=True, attempts=0, recovery=None, restart=0.0, took=0.0, problems=(wrong,))


def line(topology: str, outcome: Outcome) -> str:
    """One row of the table."""
    recovery = "" if outcome.recovery is None else f"{outcome.recovery:.2f} s"
    verdict = "; ".join(outcome.problems) if outcome.problems else "ok" if outcome.reached else "ok, not reached"
    return (
        f"{topology:8} {outcome.cut:24} {outcome.attempts:>2} attempts {recovery:>8}  {outcome.took:6.2f} s  {verdict}"
    )


def summary(outcomes: dict[str, Sequence[Outcome]]) -> str:
    """One line a topology."""
    lines = []
    for topology, found in outcomes.items():
        waits = [outcome.recovery for outcome in found if outcome.recovery is not None]
        slowest = f", recovery p50 {statistics.median(waits):.2f} s, at most {max(waits):.2f} s" if waits else ""
        failed = sum(bool(outcome.problems) for outcome in found)
        reached = sum(outcome.reached for outcome in found)
        lines.append(f"{topology}: {reached} cuts made at {len(found)} places, {failed} failed{slowest}")
    return "\n".join(lines)


async def matrix(options: argparse.Namespace) -> int:
    """0: every run of every topology came through."""
    began = time.monotonic()
    outcomes: dict[str, Sequence[Outcome]] = {}
    folder = Path(tempfile.mkdtemp(prefix="steadyhand-faults-"))
    try:
        for topology in options.topology or KINDS:
            async with embedded_postgres(folder / f"pg-{topology}", exclusive=True, settings=FAST) as dsn:
                await migrate(dsn, read_migrations())
                (folder / topology).mkdir()
                outcomes[topology] = await measured(options, topology, dsn, folder / topology)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(summary(outcomes), f"in {time.monotonic() - began:.0f} s")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes)))
    return 1 if any(outcome.problems for found in outcomes.values() for outcome in found) else 0


def main() -> int:
    if sys.platform != "linux":
        print("The fault kit reads /proc: it runs on Linux only.", file=sys.stderr)
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(matrix(arguments()))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
