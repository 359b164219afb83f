"""Who runs a command that writes to the database itself: whoever has the machine and the database's address."""

from __future__ import annotations

import os
import pwd

from app.domain.principals import DEFAULT_TENANT, Principal


def operator(tenant: str = DEFAULT_TENANT) -> Principal:
    """The operator, for the audit log by the name of this process's user, which its environment cannot change."""
    return Principal(tenant=tenant, actor=f"local:{_user()}")


def _user() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in containers
        return str(uid)
