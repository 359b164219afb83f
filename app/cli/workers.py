"""The worker processes of `serve --workers N`: plain `worker` commands that end with this process."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from app.cli.process import Process, start

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that ended by itself is replaced; twice as long each time, up to the longest."""
SETTLED = 60.0
"""Seconds after which a worker has proved that it can live: its successor comes after the first pause again."""
MARGIN = 10.0
"""Seconds that a worker has for its end beyond its drain."""
LOOK = 0.1
"""Seconds between two looks at whether a worker is still there."""


def same_program(words: Sequence[str]) -> list[str]:
    """The command line that runs those words by the program, interpreter and options that this process was started with."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1], *words]


class Workers:
    """Keeps `count` processes of one command alive, and ends them. Must be used on the main thread."""

    def __init__(self, *, count: int, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.count = count
        self._command = command
        self._environ = environ
        self._processes: dict[int, Process] = {}

    async def run(self) -> None:
        """Start them, and another one for each that ends by itself. Until cancelled, which leaves them alive for `drain`."""
        keeping = [asyncio.create_task(self._keep(place)) for place in range(self.count)]
        try:
            await (asyncio.gather(*keeping) if keeping else asyncio.Event().wait())
        finally:
            for task in keeping:
                task.cancel()
            if keeping:
                await asyncio.wait(keeping)

    async def _keep(self, place: int) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            said = await self._live(place)
            pause = FIRST_PAUSE if time.monotonic() - began >= SETTLED else pause
            log.error("a worker ended and is going to be replaced", extra=said | {"seconds": pause})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _live(self, place: int) -> dict[str, object]:
        """One process from its start to its end; why it ended."""
        try:
            process = start(
                self._command,
                number=signal.SIGKILL,
                environ=self._environ,
                output=subprocess.DEVNULL,
                errors=None,
            )
        except OSError as error:
            return {"error": str(error)}
        self._processes[place] = process
        log.info("started a worker", extra={"worker": process.pid})
        return {"worker": process.pid, "exit_status": await process.wait(poll=LOOK)}

    async def drain(self, seconds: float) -> None:
        """Each is told to stop, has `seconds` to hand its runs on, and is gone. Nobody may be in `run` any more."""
        await self._stop((signal.SIGTERM, signal.SIGKILL), seconds + MARGIN)

    def hurry(self) -> None:
        """Those that drain wait for nothing any more."""
        for process in self._processes.values():
            process.send(signal.SIGINT)

    async def aclose(self) -> None:
        """None is left."""
        await self._stop((signal.SIGKILL,), MARGIN)

    async def _stop(self, numbers: Sequence[signal.Signals], patience: float) -> None:
        await asyncio.gather(*(process.stop(numbers, patience=patience) for process in self._processes.values()))
