"""Who asks. Every service call takes a `Principal`; tenant and owner of every row come from it."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

DEFAULT_TENANT = "default"

Scope = Literal["runs", "approvals", "approvals.critical", "memories", "usage", "act_as", "admin"]
"""What a principal may do. `act_as`: name a user; `admin`: everything, and see all of its tenant."""

SCOPES: frozenset[str] = frozenset(get_args(Scope))


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A caller within one tenant.

    With a `user` it sees only that user's rows; without, all of its tenant's. `actor` is what the audit log calls it, and
    what its own rate limit counts by: `local`, `key:ID`, `jwt:SUBJECT`.
    """

    tenant: str
    user: str | None = None
    scopes: frozenset[str] = SCOPES
    actor: str = "local"

    def may(self, scope: str) -> bool:
        """Whether it has that scope."""
        return scope in self.scopes or "admin" in self.scopes


ANONYMOUS = Principal(tenant=DEFAULT_TENANT)
"""Whoever asks a service that has no keys, on its own machine."""
