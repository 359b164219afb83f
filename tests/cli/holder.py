"""A process that uses a data folder: `python -m tests.cli.holder FOLDER exclusive|join|lasting`.

Prints the DSN once it has one, `interrupted` for every SIGINT, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from app.cli.embedded.cluster import embedded_postgres

FAST = {"fsync": "off", "shared_buffers": "16MB"}


def say(text: str) -> None:
    """One line to whoever started us; a signal's handler may say one in the middle of another."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


async def hold(folder: Path, how: str) -> None:
    """Use the folder until told to end."""
    lasting = how == "lasting"
    async with embedded_postgres(folder, exclusive=how == "exclusive", lasting=lasting, settings=FAST) as dsn:
        say(dsn)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: say("interrupted"))
    asyncio.run(hold(Path(sys.argv[1]), sys.argv[2]))
