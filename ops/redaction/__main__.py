"""`uv run python -m ops.redaction`: how many of a labelled corpus are found, what is found where nothing is, and how fast.

Exit code 1 where recall or precision of a kind is under 95 %, there is more than one false alarm in 100 kB of plain text, or a core looks
through less than 10 MB a second.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from app.domain.screening import Screening
from app.safety.entities import find_now
from ops.redaction.corpus import hard, labelled, respelled
from ops.redaction.measure import Score, alarms, per_delta, score, speed, through

ROOT = Path(__file__).parents[2]
LEAST = 0.95
MEGABYTES = 10.0
ALARMS = 10.0
"""False alarms in a megabyte of plain text."""
INSTRUCTIONS = (
    "You are a helpful assistant. Answer briefly, in the language of the question, and say so where you are not sure of it. "
    * 4
)


def benign() -> list[str]:
    """Prose and code of this repository; what stands there as an example of the real thing is left out."""
    paths = [ROOT / "README.md", *(ROOT / "ops" / "decisions").glob("*.md"), *(ROOT / "app").rglob("*.py")]
    return [path.read_text() for path in sorted(paths) if "safety" not in path.parts]


def table(rows: dict[str, Score]) -> None:
    """One line each."""
    for name, row in sorted(rows.items()):
        wanted = (
            f"{row.found:4d}/{row.wanted:<4d} recall {row.recall:6.1%}" if row.wanted else f"{'nothing to find':23}"
        )
        print(f"  {name:32} {wanted}  false {row.false:3d}  precision {row.precision:6.1%}")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m ops.redaction", description=__doc__)
    parser.add_argument("--misses", action="store_true", help="print what was missed, and what was found wrongly")
    options = parser.parse_args()
    corpus = [*labelled(), *respelled()]
    kinds, whats = score(corpus, find_now)
    print(f"labelled corpus: {len(corpus)} sentences")
    table(kinds)
    print("by what it is")
    table(whats)
    print("what nobody claims to find (not judged)")
    table(score(hard(), find_now)[1])
    if options.misses:
        for row in whats.values():
            for text in row.missed:
                print("   ", text.replace("\n", "\\n")[:160])
    texts = benign()
    size = sum(len(text.encode()) for text in texts)
    found = alarms(texts)
    rate = found.total() / size * 1e6
    print(f"plain text: {found.total()} false alarms in {size / 1e6:.2f} MB ({rate:.1f} a MB) {dict(found)}")
    if options.misses:
        for text in texts:
            for one in through(text):
                print("   ", one.kind, repr(text[max(0, one.start - 20) : one.end + 10]))
    mixed = "\n".join((*texts, *(one.text for one in corpus)))
    rates = {
        "plain text and the corpus": speed(mixed),
        "the corpus alone": speed("\n".join(one.text for one in corpus)),
    }
    for what, mb in rates.items():
        print(f"speed: {mb:5.1f} MB/s over {what}")
    pieces = re.findall(r"\s?\S{1,6}", (ROOT / "README.md").read_text())[:20_000]
    cases = {"no guard": None, "secrets (the default)": Screening(), "pii": Screening(output="pii")}
    for what, policy in cases.items():
        mean, worst = per_delta(pieces, policy, INSTRUCTIONS)
        print(f"a delta through the guards, {what:22}: {mean:7.0f} ns on average, {worst / 1e6:.3f} ms at worst")
    good = all(row.recall >= LEAST and row.precision >= LEAST for row in kinds.values())
    return 0 if good and rate <= ALARMS and rates["plain text and the corpus"] >= MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
