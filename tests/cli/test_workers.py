"""The processes that `serve --workers N` starts: kept alive, ended in order, gone with whoever started them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.cli.workers import Workers
from tests.cli.keeper import STUBBORN, workers
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")


def alive(folder: Path) -> set[int]:
    """The workers that named themselves and are not gone."""
    return {pid for pid in (int(path.name) for path in folder.iterdir()) if _lives(pid)}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


@asynccontextmanager
async def running(kept: Workers) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(kept.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await kept.aclose()


async def test_one_that_ends_by_itself_is_replaced(tmp_path: Path) -> None:
    async with running(workers(tmp_path)):
        await until(lambda: len(alive(tmp_path)) == 2)
        victim = min(before := alive(tmp_path))
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(alive(tmp_path)) == 2 and victim not in alive(tmp_path))
        assert before - {victim} < alive(tmp_path), "the other one lives on"
    assert not alive(tmp_path)


async def test_a_drain_ends_them_and_starts_none(tmp_path: Path) -> None:
    kept = workers(tmp_path)
    async with running(kept) as task:
        await until(lambda: len(alive(tmp_path)) == 2)
        task.cancel()
        await asyncio.wait([task])
        await kept.drain(10)
        assert not alive(tmp_path)
    assert len(os.listdir(tmp_path)) == 2


async def test_a_drain_in_a_hurry_tells_them_so(tmp_path: Path) -> None:
    kept = workers(tmp_path, STUBBORN)
    async with running(kept) as task:
        await until(lambda: len(alive(tmp_path)) == 2)
        task.cancel()
        await asyncio.wait([task])
        draining = asyncio.create_task(kept.drain(60))
        await asyncio.sleep(0)
        assert len(alive(tmp_path)) == 2
        kept.hurry()
        await draining
        assert not alive(tmp_path)


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(Workers(count=1, command=[str(tmp_path / "missing")], environ={})) as task:
        await until(lambda: "a worker ended" in caplog.text)
        assert not task.done()


async def test_no_workers_are_nothing_to_do() -> None:
    kept = Workers(count=0, command=(), environ={})
    async with running(kept) as task:
        await kept.drain(10)
        kept.hurry()
        assert not task.done()


async def test_whoever_is_killed_takes_them_with_it(tmp_path: Path) -> None:
    keeper = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cli.keeper", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert keeper.stdout is not None
    try:
        said = [(await keeper.stdout.readline()).decode().strip() for _ in range(4)]
        await until(lambda: len(alive(tmp_path)) == 2)
    finally:
        keeper.kill()
        await keeper.wait()
    await until(lambda: not alive(tmp_path))
    assert said == [sys.executable, "-m", "tests.cli.keeper", "worker"], "started as this process was"
