"""Programs that end with this process, whatever its signal: PostgreSQL's, and workers of ours.

Each is started through `launcher.py` in a session of its own, so that Ctrl-C reaches only us. The parent-death signal belongs
to the thread that starts a program, so all of them must be started from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from app.domain.errors import SteadyhandError

_LAUNCHER = Path(__file__).with_name("launcher.py")
PARENT_DEATH_SIGNAL = sys.platform == "linux"


class NeverEnds(SteadyhandError):
    """A program is still there after every signal."""


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

    def send(self, number: signal.Signals) -> None:
        """Send that signal, unless it is gone."""
        if not self.ended():
            self._popen.send_signal(number)

    async def wait(self, *, poll: float = 0.01) -> int:
        """Its exit status, once it is gone (looked at every `poll` seconds) and its watcher is dismissed."""
        while (status := self._popen.poll()) is None:  # noqa: ASYNC110 - a thread that waits could not be cancelled
            await asyncio.sleep(poll)
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            with contextlib.suppress(BrokenPipeError):  # the watcher is gone already
                os.write(pipe, b"q")
            os.close(pipe)
        return status

    async def stop(self, numbers: Sequence[signal.Signals], *, patience: float) -> None:
        """It is gone: the signals in turn, each with `patience` seconds. Raises `NeverEnds`."""
        for number in numbers:
            self.send(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self.wait()
                return
        raise NeverEnds(f"process {self.pid} does not end")


def start(
    command: Sequence[str | Path],
    *,
    number: signal.Signals,
    environ: Mapping[str, str],
    output: IO[bytes] | int,
    errors: IO[bytes] | int | None,
    identity: str = "self",
    cwd: str | None = None,
    keep: Sequence[int] = (),
    watch: bool = not PARENT_DEATH_SIGNAL,
) -> Process:
    """Start a program that gets the signal `number` when we end; `keep` are descriptors that it holds open for its life.

    `identity` is the launcher's word for as whom it runs, `cwd` its folder (None: ours), `errors` None our own standard error.
    `watch`: by a watcher process instead of the parent-death signal. Raises RuntimeError off the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a program must be started from the main thread: it would end with this one")
    reading, writing = os.pipe() if watch else (None, None)
    launch = [sys.executable, "-I", "-S", _LAUNCHER, os.getpid(), int(number), identity, reading or "-", *command]
    try:
        popen = subprocess.Popen(  # noqa: S603 - no shell, and every argument is ours
            [str(part) for part in launch],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
            pass_fds=[*keep, *([] if reading is None else [reading])],
        )
    except OSError:
        if writing is not None:
            os.close(writing)
        raise
    finally:
        if reading is not None:
            os.close(reading)
    return Process(popen=popen, pipe=writing)
