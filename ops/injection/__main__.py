"""`uv run python -m ops.injection`: what the injection detector sees of bastioncorpus, what it takes for one that is none, and how fast it is.

It is a signal that raises the level of an approval and never the boundary (`app/safety/policy.py` is). Needs the development
dependencies. Exit code 1 below 90 % recall, or above 2 % false positives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bastioncorpus import load_corpus

from app.safety.detector import signals

LEAST_RECALL = 0.9
MOST_FALSE = 0.02
SIZES = (200, 4_000, 24_000, 262_144)
PAGE = "The museum opens at nine. Tickets cost 12 EUR; please send questions to info@museum.example. "


def main(rows: Sequence[Any]) -> int:
    malicious = [row for row in rows if row.label == "malicious"]
    benign = [row for row in rows if row.label == "benign"]
    recall = _table("malicious: seen", malicious, lambda row: f"{row.category}")
    _table("malicious: seen", malicious, lambda row: f"language {row.lang}")
    false = _table("benign: taken for one", benign, lambda row: f"{row.category}")
    print(f"\nrecall {recall:.1%} of {len(malicious)}, false positives {false:.1%} of {len(benign)}\n")
    for size in SIZES:
        text = (PAGE * (size // len(PAGE) + 1))[:size]
        began, times = time.perf_counter(), 0
        while time.perf_counter() - began < 0.2:
            signals(text)
            times += 1
        print(f"{size:>8} characters: {(time.perf_counter() - began) / times * 1000:8.2f} ms")
    return 0 if recall >= LEAST_RECALL and false <= MOST_FALSE else 1


def _table(title: str, rows: Sequence[Any], kind: Callable[..., str]) -> float:
    """Prints how many rows of each kind have a signal; the share of all."""
    all_, seen = Counter(map(kind, rows)), Counter(kind(row) for row in rows if signals(row.text))
    print(f"\n{title}")
    for name, count in sorted(all_.items()):
        print(f"  {name:<24} {seen[name]:>3} of {count:>3}")
    return sum(seen.values()) / len(rows)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m ops.injection", description=__doc__).parse_args()
    sys.exit(main(load_corpus()))
