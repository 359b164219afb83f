"""Idempotency keys: one request, however often it is sent.

Keys are per tenant, caller's user, method and path, and kept for a day. A request that makes a run stores its key in the
run's own transaction; any other keeps its answer.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from app.domain.principals import Principal

LIFETIME = 86_400.0
"""Seconds."""


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's key. `fingerprint` names the request's content."""

    method: str
    path: str
    key: str
    fingerprint: str


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered. `body` is JSON, None for no body."""

    status: int
    body: bytes | None


class KeyStore(Protocol):
    """Keys of requests that make no run."""

    async def take(self, principal: Principal, key: IdempotencyKey, seconds: float) -> KeptAnswer | bool:
        """Begin the request: True; its answer, where it was given before; False: another caller is at it, for so many seconds at most.

        Raises `RequestError` idempotency_key_reused for another fingerprint.
        """
        ...

    async def keep(self, principal: Principal, key: IdempotencyKey, answer: KeptAnswer) -> None:
        """The request was answered."""
        ...

    async def drop(self, principal: Principal, key: IdempotencyKey) -> None:
        """The request was refused: as if it had never been sent."""
        ...

    async def sweep(self) -> int:
        """Forget keys that are too old. How many."""
        ...
