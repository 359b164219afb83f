"""`steadyhand audit`: who decided what, read from the database."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import msgspec

from app.cli.chat_screen import harmless
from app.cli.commands import DONE
from app.cli.database import open_database
from app.domain.audit import AuditEntry
from app.domain.principals import Principal
from app.runs.audit import AuditService
from app.storage.postgres.audit import PostgresAuditLog
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """The latest entries, the newest last; as JSON one document, the newest first, as over HTTP."""
    settings = load_workspace(options.workspace, os.environ).settings
    async with open_database(settings) as db:
        service = AuditService(log=PostgresAuditLog(database=db))
        operator = Principal(tenant=options.tenant, scopes=frozenset({"admin"}))
        found = await service.entries(operator, options.action, options.target, None, options.limit)
    print(msgspec.json.encode({"data": found}).decode() if options.json else table(found))
    return DONE


def table(entries: Sequence[AuditEntry]) -> str:
    """A line for each entry."""
    return "\n".join(map(_line, reversed(entries))) or "nothing yet"


def _line(entry: AuditEntry) -> str:
    who = f"{entry.actor} ({entry.user_id})" if entry.user_id else entry.actor
    detail = " ".join(f"{key}={value}" for key, value in entry.detail.items())
    return harmless(f"{entry.at:%Y-%m-%d %H:%M:%S} {who} {entry.action} {entry.target} {detail}".rstrip())
