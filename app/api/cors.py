"""Which pages of other origins may call, as the Fetch standard has it. Nothing is ever allowed with cookies: there are none."""

from __future__ import annotations

from collections.abc import Collection

Headers = tuple[tuple[bytes, bytes], ...]
ANY = "*"
METHODS = b"GET, POST, PUT, DELETE"
SENT = b"Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, X-API-Key, X-Request-Id, traceparent, tracestate"
"""What a page may send besides what every page may. A `*` would not mean `Authorization`."""
MAX_AGE = b"600"
"""Seconds for which a browser remembers the answer to its preflight."""


class Origins:
    """The origins that may call. None: only pages of this service itself may."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._any = ANY in allowed
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def allows(self, origin: bytes) -> bool:
        """Whether pages of that origin, spelled as browsers do, may call."""
        return self._any or origin in self._allowed

    def answer(self, origin: bytes | None) -> Headers:
        """What the response to a request of that origin has. None: to one that names none."""
        if self._any:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*"))
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self._allowed:
            return (vary,)
        return ((b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"*"), vary)

    def preflight(self) -> Headers:
        """What the answer to an allowed origin's preflight has besides."""
        return (
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", SENT),
            (b"access-control-max-age", MAX_AGE),
        )
