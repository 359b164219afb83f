"""`uv run python -m ops.flood`: one tenant sends twenty times what it may for a minute. What another one feels of it, how quickly it is
refused, and whether memory grows. Exit code 1 where a goal is missed. Linux only; best on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from tests.e2e.flood import Flood, flooded, flooded_service, p95

REFUSED_WITHIN = 0.05
SLOPE = 0.05


def report(found: Flood, seconds: float) -> bool:
    """Prints it. Whether every goal is met."""
    calm, beside, refused = p95(found.alone.took[200]), p95(found.beside.took[200]), p95(found.flood.took[429])
    most = max(1.5 * calm, calm + 0.05)
    rows = (
        (
            f"p95 of the other tenant: {calm * 1000:.1f} ms alone, {beside * 1000:.1f} ms beside the flood",
            beside <= most,
        ),
        (
            f"refusals: p50 {statistics.median(found.flood.took[429]) * 1000:.1f} ms, p95 {refused * 1000:.1f} ms",
            refused <= REFUSED_WITHIN,
        ),
        (f"memory: {found.grew:+.1%} in {seconds:g} s", found.grew < SLOPE),
        (f"calls of the other tenant: {dict(found.beside.counts)}", set(found.beside.counts) == {200}),
    )
    for text, met in rows:
        print(f"{'met   ' if met else 'MISSED'} {text}")
    print(f"calls of the flood: {dict(found.flood.counts)}")
    return all(met for _, met in rows)


async def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m ops.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the flood (default: 60)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="steadyhand-flood-") as folder:
        async with flooded_service(Path(folder), {}) as (service, keys):
            found = await flooded(service, keys, calm=20.0, warm=10.0, seconds=options.seconds)
    return 0 if report(found, options.seconds) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
