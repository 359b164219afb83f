"""Becomes a program that ends with the process that started it.

Run as a script (`python -I -S launcher.py PARENT SIGNAL IDENTITY WATCH PROGRAM ARGUMENT…`), before any of our packages can be
imported. PARENT is the pid that must still be our parent; SIGNAL what the program gets when that parent dies.

IDENTITY: `self`; `namespace` (a new user namespace where our uid shows as one that /etc/passwd names and that is not root: PostgreSQL
refuses root, and initdb a uid without a name); or a numeric uid to change to. WATCH: `-` to use the kernel's parent-death signal (Linux), or the number of an
inherited pipe's read end: a detached process then waits for its end of file and signals the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
FAILED = 125
"""Exit status when the program was not reached."""


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _ordinary_uid() -> int:
    for uid in (65534, 1000, 1, 2):
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_uid
    return 65534


def _assume(identity: str, libc: ctypes.CDLL) -> None:
    if identity == "self":
        return
    if identity == "namespace":
        uid, gid, shown = os.geteuid(), os.getegid(), _ordinary_uid()
        _checked(libc.unshare(_CLONE_NEWUSER), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{shown} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{shown} {gid} 1")
        return
    os.setgroups([])
    os.setgid(int(identity))
    os.setuid(int(identity))


def _watch(pipe: int, number: int) -> None:
    """Leave a process behind that signals this one when the pipe ends; a byte on the pipe dismisses it."""
    program = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(pipe)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    # The lock of the server must be free once the server is gone, so the watcher keeps nothing open but the pipe.
    for low, high in ((0, pipe), (pipe + 1, 4096)):
        os.closerange(low, high)
    if not os.read(pipe, 1):
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, number)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Replace this process by the program, or exit with FAILED and the reason on stderr."""
    parent, number, identity, watch, *program = arguments
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _assume(identity, libc)
        if watch != "-":
            _watch(int(watch), int(number))
        else:
            # After the change of identity, which clears it.
            _checked(libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0), "prctl")
            if os.getppid() != int(parent):
                sys.exit(FAILED)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execv(program[0], program)  # noqa: S606 - the very purpose: no shell between us and the program
    except (OSError, AttributeError) as error:  # AttributeError: this kernel has no such call
        sys.stderr.write(f"cannot run {program[0]} as {identity}: {error}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
