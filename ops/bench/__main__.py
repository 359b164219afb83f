"""`uv run python -m ops.bench`: starts everything, measures, prints the table, writes the JSON, ends everything. Linux only."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from ops.bench.load import Client
from ops.bench.measure import Bench, Plan
from ops.bench.processes import BenchError
from ops.bench.report import document, table
from ops.bench.stack import open_stack

PARTS = ("turn", "history", "latency", "stream", "queue", "router")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    parser.add_argument(
        "--rounds",
        type=int,
        choices=range(1, 50),
        metavar="N",
        default=5,
        help="interleaved rounds; the table shows medians (default 5)",
    )
    parser.add_argument("--quick", action="store_true", help="one round, small: shows that it works, not how fast")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure this part; may be given several times (default: all)"
    )
    parser.add_argument("--services", choices=("both", "ours", "peer"), default="both")
    parser.add_argument("--streams", default="100,1000", help="numbers of open streams (default 100,1000)")
    parser.add_argument(
        "--token-rate", type=float, default=20, help="tokens per second of each stream, as a model writes (default 20)"
    )
    parser.add_argument("--no-telemetry", action="store_true", help="without the OTLP export of our service")
    parser.add_argument(
        "--json", type=Path, default=Path("dist/bench.json"), help="where the values go (default dist/bench.json)"
    )
    return parser.parse_args()


def planned(options: argparse.Namespace) -> Plan:
    quick = options.quick
    return Plan(
        rounds=1 if quick else options.rounds,
        parts=frozenset(options.only or PARTS),
        turns=100 if quick else 300,
        history_sessions=10 if quick else 40,
        latency_turns=2 if quick else 5,
        streams=tuple(int(count) for count in options.streams.split(",")),
        stream_tokens=4_000 if quick else 20_000,
        token_rate=options.token_rate,
        routed_calls=200 if quick else 2_000,
    )


def keep_logs(folder: Path, beside: Path) -> None:
    for log in folder.glob("*.log"):
        shutil.copy(log, beside / f"bench-{log.name}")


async def bench(options: argparse.Namespace) -> int:
    """0: measured, and every answer was right; 1: something failed. Missed goals are printed, not an exit code.

    After a failure the services' logs are kept beside the JSON.
    """
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    plan, telemetry = planned(options), not options.no_telemetry
    services = ("ours", "peer") if options.services == "both" else (options.services,)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="steadyhand-bench-", ignore_cleanup_errors=True))
        )
        parts = set(plan.parts)
        running = await open_stack(
            stack,
            folder=folder,
            names=services if parts - {"queue", "router"} else (),
            queue="queue" in parts,
            router="router" in parts,
            telemetry=telemetry,
        )
        samples = await Bench(stack=running, plan=plan).run()
        client = Client(port=running.mock_port)
        stats = msgspec.json.decode((await client.post("/control/stats", {}))[1])
        await client.close()
        options.json.parent.mkdir(parents=True, exist_ok=True)
        if samples.failures:
            keep_logs(folder, options.json.parent)
    if telemetry and "ours" in samples.values and not stats["otlp_bytes"]:
        samples.failures.append("ours exported no spans: its telemetry was not on")
    print(table(samples, plan))
    options.json.write_bytes(document(samples, plan, telemetry=telemetry, spans_bytes=stats["otlp_bytes"]))
    print(f"Values of each round: {options.json}")
    return 1 if samples.failures else 0


def main() -> int:
    if sys.platform != "linux":
        print("The benchmark reads CPU time and memory from /proc: it runs on Linux only.", file=sys.stderr)
        return 2
    # A thousand streams need a socket each on both sides of the service.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        return asyncio.run(bench(arguments()))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
