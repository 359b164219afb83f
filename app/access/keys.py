"""Keys are made, listed and revoked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from app.access.format import digest_of, new_key
from app.domain.access import ApiKey, ApiKeyStore, NewKey, sorted_scopes
from app.domain.errors import RequestError
from app.domain.principals import Principal

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


class KeyService:
    """Makes and revokes keys; both are in the audit log of the key's tenant."""

    def __init__(self, *, store: ApiKeyStore) -> None:
        self._store = store

    async def create(
        self, by: Principal, *, tenant: str, user: str | None, scopes: Sequence[str], expires_at: datetime | None
    ) -> tuple[ApiKey, str]:
        """A new key, and its text, which nobody can find out again. Raises `RequestError` validation_error for a bad name."""
        check_tenant(tenant)
        if user is not None:
            check_user(user)
        while True:
            text, key_id = new_key()
            made = await self._store.create(
                by,
                NewKey(
                    id=key_id,
                    digest=digest_of(text),
                    tenant=tenant,
                    user_id=user,
                    scopes=sorted_scopes(scopes),
                    expires_at=expires_at,
                ),
            )
            if made is not None:
                return made, text

    async def keys(self, tenant: str | None) -> list[ApiKey]:
        """All keys of that tenant, or of all tenants, newest first."""
        return await self._store.keys(tenant)

    async def revoke(self, by: Principal, key_id: str) -> ApiKey:
        """The key is refused from now on, by every process within a second. Raises `RequestError` not_found."""
        revoked = await self._store.revoke(by, key_id)
        if revoked is None:
            raise RequestError("not_found", f"There is no key {key_id!r}.")
        return revoked


def check_tenant(name: str) -> None:
    """Raises `RequestError` validation_error where no tenant can be called so."""
    if not is_tenant(name):
        raise RequestError(
            "validation_error",
            "A tenant's name is 1 to 128 of A-Z a-z 0-9 . _ : - and begins with none of the last four.",
        )


def is_tenant(name: object) -> bool:
    """Whether a tenant can be called so."""
    return isinstance(name, str) and _TENANT.fullmatch(name) is not None


def check_user(name: str) -> None:
    """Raises `RequestError` validation_error where no user can be called so."""
    if not is_user(name):
        raise RequestError(
            "validation_error", "A user's name has 1 to 256 characters that can be seen, and no line end."
        )


def is_user(name: object) -> bool:
    """Whether a user can be called so: as issuers of tokens call them, which may be anything but a riddle."""
    return isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable() and name.strip() == name
