"""Who asks. Every service call takes a `Principal`; tenant and owner of every row come from it."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from app.domain.errors import FieldError, RequestError
from app.domain.tool_policy import is_tool_scope

DEFAULT_TENANT = "default"

Scope = Literal["runs", "approvals", "approvals.critical", "memories", "usage", "act_as", "admin"]
"""What a principal may do. `act_as`: name a user; `admin`: everything, and see all of its tenant."""

SCOPES: frozenset[str] = frozenset(get_args(Scope))


def is_scope(text: str) -> bool:
    """Whether that is a scope: one of ours, or one that an agent's file asks for with a tool (`tool:…`)."""
    return text in SCOPES or is_tool_scope(text)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A caller within one tenant.

    With a `user` it sees only that user's rows; without, or with `admin`, all of its tenant's. `actor` is what the audit log calls it, and
    what its own rate limit counts by: `local`, `local:USER` for a command on the machine, `key:ID`, `jwt:SUBJECT`.
    """

    tenant: str
    user: str | None = None
    scopes: frozenset[str] = SCOPES - {"admin"}
    actor: str = "local"

    def may(self, scope: str) -> bool:
        """Whether it has that scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def sees(self) -> str | None:
        """The user whose rows it sees; None: all of its tenant's."""
        return None if "admin" in self.scopes else self.user

    def acting_for(self, user_id: str | None) -> Principal:
        """The principal of a request that names that user: it owns what is made, and sees it. None names nobody.

        Raises `RequestError` forbidden where that is another user than its own, and it has not the scope `act_as`.
        """
        if user_id is None or user_id == self.user:
            return self
        if not self.may("act_as"):
            raise RequestError(
                "forbidden",
                "`user_id` is not the user of this key: naming another one needs the scope `act_as`.",
                [FieldError("user_id", "needs the scope `act_as`")],
            )
        return self if self.sees is None else msgspec.structs.replace(self, user=user_id)


ANONYMOUS = Principal(tenant=DEFAULT_TENANT, scopes=SCOPES)
"""Whoever asks a service that has no keys, on its own machine."""
