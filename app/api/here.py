"""Pages of other sites, and the service of this machine that needs no key: their browser is on this machine, too.

A page may have its own name resolve to this machine (DNS rebinding), and is then one of the service's own origin to its browser.
The name stays in `Host` and `Origin`, which no page can set.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection

from app.api.cors import ANY, Origins
from app.domain.errors import RequestError

ASK_SO = "While this service needs no key it answers only who asks it as localhost or 127.0.0.1"
LOCALHOST = "localhost"


class OnlyHere:
    """What a request must say while nobody needs a key. `origins` are those whose pages may call all the same, by their names: `*` is
    every page of the world, and would give each of them every scope."""

    def __init__(self, *, origins: Collection[str] = ()) -> None:
        self._origins = Origins([origin for origin in origins if origin != ANY])

    def check(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """Raises `RequestError` forbidden where the request asks for another host than this machine, or a strange page sent it."""
        host, origin = b"", None
        for name, value in connection.scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if not is_here(f"//{host.decode('latin-1')}"):
            raise RequestError(
                "forbidden", f"{ASK_SO}. Make a key with `steadyhand keys create` to have it asked by other names."
            )
        if origin is None or is_here(origin.decode("latin-1")) or self._origins.allows(origin):
            return
        raise RequestError(
            "forbidden", f"{ASK_SO}, and no page of another origin that server.cors_origins does not name."
        )


def is_here(url: str) -> bool:
    """Whether that URL's host is a name that is always this machine's (RFC 6761, 6.3) or a loopback address; whatever its port."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:  # no `Host` and no `Origin` has a user in it (RFC 9110, 7.2)
            return False
        host = (parts.hostname or "").removesuffix(".")
        if host == LOCALHOST or host.endswith(f".{LOCALHOST}"):
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
