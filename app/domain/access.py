"""API keys, and who may use the service: what is known of them, and the store that knows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from app.domain.principals import Principal


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as people see it; the key itself is shown once, when it is made, and kept nowhere.

    `user_id` None: it sees all of its tenant. `expires_at` None: never. `last_used_at` is right to about a minute.
    """

    id: str
    tenant: str
    user_id: str | None
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that is to be. `digest`: SHA-256 of it; `free_form`: an operator chose it, and it does not look like one of ours."""

    id: str
    digest: bytes
    tenant: str
    user_id: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    free_form: bool = False


class Valid(msgspec.Struct, frozen=True, kw_only=True):
    """A key that may be used now, and for so many seconds more (None: for ever, unless it is revoked)."""

    id: str
    principal: Principal
    seconds: float | None


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """All keys in short: a number that is another one after each change, 0 where there never was a key; and digests of free-form keys."""

    changes: int
    free_form: frozenset[bytes]


class Authenticates(Protocol):
    """Tells who somebody is."""

    async def principal(self, credential: str | None) -> Principal:
        """Whose key or token that is; None: who gave none. Cheap enough for every request, and right within a second.

        Raises `RequestError`: unauthenticated, and not_ready where that cannot be known now; and `DatabaseUnavailable`.
        """
        ...

    async def refused(self, credentials: Collection[str | None]) -> list[str | None]:
        """Those whom `principal` would refuse as unauthenticated, in one question to the database for all of them. Whose state
        cannot be known now are not among them. Never raises `DatabaseUnavailable`.
        """
        ...


class ApiKeyStore(Protocol):
    """The keys of all tenants. Every method may raise `DatabaseUnavailable`."""

    async def create(self, by: Principal, key: NewKey) -> ApiKey | None:
        """Keep a key, and that it was made in the audit log, both or neither. None: a key of that digest is there already."""
        ...

    async def by_digest(self, digest: bytes) -> ApiKey | None:
        """The key of that digest, usable or not."""
        ...

    async def keys(self, tenant: str | None) -> list[ApiKey]:
        """All keys of that tenant (None: of all tenants), newest first; those that cannot be used any more too."""
        ...

    async def revoke(self, by: Principal, key_id: str) -> ApiKey | None:
        """The key may not be used any more; the first time that is audited. None: there is no such key."""
        ...

    async def state(self) -> KeyState:
        """How the keys stand now."""
        ...

    async def valid(self, digests: Sequence[bytes]) -> Mapping[bytes, Valid]:
        """The keys of those digests that may be used, by digest; in one statement, however many they are."""
        ...

    async def usable(self) -> int:
        """How many keys may be used now."""
        ...

    async def used(self, ages: Mapping[str, float]) -> None:
        """Those keys were used so many seconds ago."""
        ...


def sorted_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Each of them once, in order."""
    return tuple(sorted(set(scopes)))
