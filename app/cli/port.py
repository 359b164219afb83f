"""The port of a service: taken under its name, or refused under the name of who has it."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from app.domain.errors import SteadyhandError


class PortTaken(SteadyhandError):
    """Somebody else listens there."""


def resolve(host: str) -> str:
    """The address of a host name to listen on. Raises `SteadyhandError` where there is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SteadyhandError(f"cannot listen on {host!r}: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    return next((address for address in addresses if ":" not in address), addresses[0])


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(address).is_loopback


def check_free(address: str, port: int) -> None:
    """Nobody listens there now; who listens there later is `listen`'s to find. Raises `PortTaken`."""
    _socket(address, port, None).close()


def listen(address: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens on `port` (0: on any free one), and shares it with nobody for as long as it is open.

    Raises `PortTaken`.
    """
    return _socket(address, port, backlog)


def _socket(address: str, port: int, backlog: int | None) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by every connection: a small frame must not wait for the acknowledgement of the one before.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        opened.bind((address, port))
        if backlog is not None:
            opened.listen(backlog)
            opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise PortTaken(f"cannot listen on {address}:{port}: {error.strerror}{_by_whom(port)}") from error
    return opened


def _by_whom(port: int) -> str:
    """Who listens on that port, as far as this user may know."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return ""
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            command = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f" by process {process.name} ({command[:120]})"
    return ""


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(handle) in inodes for handle in process.joinpath("fd").iterdir())
    except OSError:
        return False
