"""No test reaches beyond this machine: connections to anything but loopback and Unix sockets raise.

Two places, because uvloop connects without Python's sockets: an audit hook for every Python socket of the process, and the
event loop that the tests run on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from typing import Any


class ReachedOut(RuntimeError):
    """A test tried to leave this machine."""


def _check(host: object) -> None:
    if host in (None, "", "localhost"):
        return
    name = host.decode() if isinstance(host, bytes) else str(host)
    try:
        inside = ipaddress.ip_address(name.split("%", 1)[0])
    except ValueError:
        raise ReachedOut(f"a test may not look up {name}") from None
    if not (inside.is_loopback or inside.is_unspecified):
        raise ReachedOut(f"a test may not connect to {name}")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" or event == "socket.sendto":
        address = arguments[1]
        if isinstance(address, tuple):
            _check(address[0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _check(arguments[0])


def forbid_network() -> None:
    """For the life of this process."""
    sys.addaudithook(_audit)


if sys.platform == "win32":
    GuardedLoop = asyncio.ProactorEventLoop
else:
    import uvloop

    class GuardedLoop(uvloop.Loop):
        """uvloop that connects to this machine only."""

        async def create_connection(self, protocol_factory: Any, host: Any = None, *rest: Any, **named: Any) -> Any:
            _check(host)
            return await super().create_connection(protocol_factory, host, *rest, **named)

        async def create_datagram_endpoint(self, *arguments: Any, **named: Any) -> Any:
            _check((named.get("remote_addr") or (None,))[0])
            return await super().create_datagram_endpoint(*arguments, **named)

        async def getaddrinfo(self, host: Any, *rest: Any, **named: Any) -> Any:
            _check(host)
            return await super().getaddrinfo(host, *rest, **named)
