"""`uv run python -m ops.mutants`: takes each mechanism of durable runs away in turn and shows which tests turn red.

Exit code 1 where a mutant survives, or where the code no longer looks as a mutant expects it to.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ops.mutants.mutants import MUTANTS
from ops.mutants.run import Mutant, MutantError, Tree, Verdict


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutants (default: all)")
    parser.add_argument("--list", action="store_true", help="show the mutants and their tests, and do nothing")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at once (default 2)")
    return parser.parse_args()


async def judged(mutants: Sequence[Mutant], jobs: int, folder: Path) -> list[str]:
    """What is wrong, printed as it is found with what is right."""
    waiting, wrong = list(reversed(mutants)), []

    async def judge(tree: Tree) -> None:
        while waiting:
            mutant = waiting.pop()
            try:
                verdict = await tree.judge(mutant)
            except MutantError as error:
                wrong.append(f"{mutant.name}: {error}")
                print(f"{mutant.name:32} ERROR {error}", flush=True)
                continue
            if not verdict.red:
                wrong.append(f"{mutant.name} survived")
            print(line(verdict), flush=True)

    await asyncio.gather(*(judge(Tree(folder=folder / str(job))) for job in range(jobs)))
    return wrong


def line(verdict: Verdict) -> str:
    """One row of the table."""
    outcome = ", ".join(name.rpartition("/")[2] for name in verdict.red) if verdict.red else "SURVIVED"
    return f"{verdict.name:32} {verdict.took:6.1f} s  {outcome}"


async def mutants(options: argparse.Namespace) -> int:
    """0: every mutant was noticed, and without one the same tests are green."""
    unknown = set(options.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name:32} {mutant.file}: {', '.join(mutant.tests)}")
        return 0
    with tempfile.TemporaryDirectory(prefix="steadyhand-mutants-") as name:
        selection = sorted({test for mutant in chosen for test in mutant.tests})
        for job in range(options.jobs):
            (Path(name) / str(job)).mkdir()
        (Path(name) / "sound").mkdir()
        code, said = await Tree(folder=Path(name) / "sound").tests(selection)
        if code:
            print(f"the tests are not green without any mutant:\n{said[-6000:]}", file=sys.stderr)
            return 1
        wrong = await judged(chosen, options.jobs, Path(name))
    print(f"{len(chosen)} mutants, {len(wrong)} not killed" if wrong else f"all {len(chosen)} mutants killed")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(mutants(arguments())))
    except KeyboardInterrupt:
        sys.exit(130)
