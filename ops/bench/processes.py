"""The processes of the benchmark: how they are started, pinned, waited for, measured and ended. Linux only: it reads /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot go on; the text says what to do."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(command: Sequence[str], cores: Sequence[int]) -> list[str]:
    """`command`, kept to `cores`; unchanged without `taskset` or where no cores are given."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", ",".join(map(str, cores)), *command] if taskset and cores else list(command)


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cores: Sequence[int] = (),
    stop: str = "TERM",
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, alive until the block ends, its output in `log`. It is ended with the signal `stop` and, ten seconds later, killed.

    It has a session of its own (Ctrl-C reaches the benchmark alone) and dies with us where `setpriv` exists.
    """
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", stop] if setpriv else []
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *guard,
            *pinned(command, cores),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await ended(process, stop)


async def ended(process: asyncio.subprocess.Process, stop: str) -> None:
    """The process is gone."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal({"TERM": 15, "INT": 2}[stop])
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def completed(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, cores: Sequence[int] = ()
) -> bytes:
    """Standard output of a command that ended with 0; `BenchError` with its errors otherwise. The command never outlives the call."""
    process = await asyncio.create_subprocess_exec(
        *pinned(command, cores),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if env is None else {**os.environ, **env},
        cwd=cwd,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate()
    finally:
        await ended(process, "TERM")
    if process.returncode:
        raise BenchError(
            f"{' '.join(command[:6])} … ended with {process.returncode}:\n{(err + out).decode(errors='replace')[-3000:]}"
        )
    return out


async def answers(process: asyncio.subprocess.Process, url: str, *, log: Path, seconds: float = 60) -> None:
    """`url` (http://127.0.0.1:PORT/PATH) has answered 200. `BenchError` with the end of the log if the process ends or time is up."""
    port, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
    give_up = time.monotonic() + seconds
    while process.returncode is None and time.monotonic() < give_up:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            try:
                writer.write(b"GET /%s HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n" % path.encode())
                if b" 200 " in await reader.readline():
                    return
            finally:
                writer.close()
        await asyncio.sleep(0.05)
    raise BenchError(f"{url} does not answer 200. Its log ends:\n{last_words(log)}")


def last_words(log: Path) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-3000:]


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, of a process with all its threads, its living descendants, and the children it has waited for.

    Nanoseconds from the processes' CPU clocks (clock_getcpuclockid(3): the id is made of the pid); ticks for the dead children.
    """
    total = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~member << 3) | 2)
            waited = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += sum(map(int, waited)) / TICKS
    return total


def rss_mib(pid: int) -> float:
    """Resident memory of a process and its living descendants."""
    pages = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * PAGE / 2**20
