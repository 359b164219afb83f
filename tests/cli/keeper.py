"""A process that keeps two workers alive until it is killed: `python -m tests.cli.keeper FOLDER`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from app.cli.workers import Workers, same_program

PROGRAM = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
while True:
    signal.pause()
"""
"""A worker that names itself in a folder, and ends at SIGTERM."""
STUBBORN = PROGRAM.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN").replace(
    "signal.pause()", "signal.sigwait([signal.SIGINT]), sys.exit(3)"
)
"""One that ends at SIGINT only."""


def workers(folder: Path, program: str = PROGRAM, count: int = 2) -> Workers:
    command = [sys.executable, "-c", program, str(folder)]
    return Workers(count=count, command=command, environ={"PATH": os.environ["PATH"]})


if __name__ == "__main__":
    sys.stdout.write("\n".join([*same_program(["worker"]), ""]))
    sys.stdout.flush()
    asyncio.run(workers(Path(sys.argv[1])).run())
