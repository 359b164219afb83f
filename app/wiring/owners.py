"""What processes are called where their leases stand, and which of them are gone."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Literal

Role = Literal["all", "api", "worker"]
_OWNER = re.compile(r"\w+ (?P<pid>\d+) on (?P<host>.+) (?P<pids>\S+)")


def name_of(role: Role) -> str:
    """What this process is called where its leases stand."""
    return f"{role} {os.getpid()} on {socket.gethostname()} {_pids()}"


def _pids() -> str:
    """Where a pid means the same process: this boot of this machine, and its namespace of pids where there are several."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot[:8]}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"


def died_here(owner: str) -> bool:
    """Whether that was a process of this machine, which is gone: its pid is nobody's, or ours by now."""
    named = _OWNER.fullmatch(owner)
    if named is None or sys.platform == "win32":
        return False
    if (named["host"], named["pids"]) != (socket.gethostname(), _pids()) or named["pids"] == "unknown":
        return False
    pid = int(named["pid"])
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
