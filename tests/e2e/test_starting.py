"""What may happen while a service starts: a signal, and another service that wants the same port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from app.cli.embedded.ownership import read_record, try_lock
from app.cli.port import listen
from tests.e2e.service import Ended, launch, processes, serve
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and the embedded PostgreSQL are Unix's")

NEVER_READY = """#!/bin/sh
[ "$1" = -V ] && echo "postgres (PostgreSQL) 18.0" && exit
mkdir -p "$2"
touch "$2/begun"
exec sleep 1000
"""


@pytest.mark.parametrize(
    ("made", "number"),
    [(False, signal.SIGTERM), (True, signal.SIGTERM), (True, signal.SIGINT)],
    ids=["initdb-SIGTERM", "recovery-SIGTERM", "recovery-SIGINT"],
)
async def test_a_signal_ends_a_start_that_takes_long(tmp_path: Path, made: bool, number: signal.Signals) -> None:
    data, programs = tmp_path / "data", tmp_path / "bin"
    for name in ("postgres", "initdb"):
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(NEVER_READY)
        (programs / name).chmod(0o755)
    if made:
        (data / "postgres").mkdir(parents=True, mode=0o700)
        (data / "postgres" / "PG_VERSION").write_text("18\n")
    service = await launch(tmp_path, "serve", "--port", "0", environ={"STEADYHAND__DATABASE__BIN_DIR": str(programs)})
    try:
        await until((data / ("postgres" if made else "postgres.new") / "begun").exists)
        record = read_record(data)
        service.signal(number)
        assert await service.exit(within=5) == 0
        assert service.process.stdout is not None
        assert await service.process.stdout.read() == b""
        assert [line["event"] for line in service.logs] == ["stopped before the start was complete"]
        assert record is not None
        assert record.sockets is not None
        assert not os.path.exists(record.sockets)  # noqa: ASYNC240  # waits for nothing
        assert read_record(data) is None
        for lock in ("owner.lock", "server.lock"):
            handle = try_lock(data / lock)
            assert handle is not None, f"{lock} is held by what was left behind: {processes(tmp_path)}"
            os.close(handle)
    finally:
        await service.aclose()


async def test_a_signal_ends_the_wait_for_a_data_folder_that_another_one_holds(tmp_path: Path) -> None:
    async with serve(tmp_path) as first:
        second = await launch(tmp_path, "serve", "--port", "0")
        try:
            await until(lambda: _handles(second.pid, signal.SIGTERM))
            second.signal(signal.SIGTERM)
            assert await second.exit(within=5) == 0
            assert "Traceback" not in second.stderr
        finally:
            await second.client.aclose()
            await second.kill()
        assert (await first.get("/readiness")).status_code == 200


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether that process does something of its own at the signal."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


async def test_two_services_that_start_at_once_do_not_share_a_port(tmp_path: Path, database: str) -> None:
    with listen("127.0.0.1", 0, 1) as probe:
        port = probe.getsockname()[1]
    both = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        both.append(await launch(tmp_path / name, "serve", "--port", str(port), environ={"DATABASE_URL": database}))
    try:
        started = await asyncio.gather(*(service.started() for service in both), return_exceptions=True)
        assert [type(found) for found in started if found is not None] == [Ended]
        (winner,) = [service for service, found in zip(both, started, strict=True) if found is None]
        (loser,) = [service for service in both if service is not winner]
        assert await loser.exit() == 1
        assert f"cannot listen on 127.0.0.1:{port}: " in loser.stderr
        assert f"by process {winner.pid} (" in loser.stderr
        assert "Traceback" not in loser.stderr
    finally:
        for service in both:
            await service.aclose()
