"""Which process holds the other end of a connection on this machine. Linux only: it reads /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def holder(port: int, pids: Iterable[int]) -> int | None:
    """Which of those processes has the TCP socket with that local port."""
    wanted = _inode(port)
    for pid in pids if wanted else ():
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(link) == f"socket:[{wanted}]":
                    return pid
        except OSError:
            continue
    return None


def _inode(port: int) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            return fields[9]
    return None
