"""Who asks. Every service call takes a `Principal`; tenant and owner of every row come from it."""

from __future__ import annotations

import msgspec

DEFAULT_TENANT = "default"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A caller within one tenant.

    With a `user` it sees only that user's rows; without, all of its tenant's.
    """

    tenant: str
    user: str | None = None


ANONYMOUS = Principal(tenant=DEFAULT_TENANT)
