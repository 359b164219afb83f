"""`steadyhand keys …`: API keys are made, listed and revoked, in the database; services that run follow within a second."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from app.access.keys import KeyService
from app.cli.columns import columns
from app.cli.commands import DONE, USAGE
from app.cli.database import open_database
from app.cli.operator import operator
from app.domain.access import ApiKey
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.workspace.load import load_workspace

COLUMNS = ("ID", "TENANT", "USER", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "STATE")


class _Made(msgspec.Struct, frozen=True):
    """A new key, as it is shown once."""

    id: str
    key: str
    tenant: str
    user_id: str | None
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None


async def run(options: argparse.Namespace) -> int:
    """Exit code 1 where there is no such key, or a name is none; 2 where the expiry is over already."""
    match options.action:
        case "create":
            return await _create(options)
        case "list":
            async with _service(options) as keys:
                found = await keys.keys(options.tenant)
            print(msgspec.json.encode({"data": found}).decode() if options.json else _table(found))
        case _:
            async with _service(options) as keys:
                revoked = await keys.revoke(operator(), options.id)
            told = f"revoked {revoked.id} of tenant {revoked.tenant}; services refuse it within a second"
            print(msgspec.json.encode(revoked).decode() if options.json else told)
    return DONE


async def _create(options: argparse.Namespace) -> int:
    expires = options.expires
    try:
        expires_at = datetime.now(UTC) + expires if isinstance(expires, timedelta) else expires
    except OverflowError:
        expires_at = datetime.min.replace(tzinfo=UTC)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        print("steadyhand keys create: --expires is not in the future", file=sys.stderr)
        return USAGE
    scopes = [scope for words in options.scopes for scope in words]
    async with _service(options) as keys:
        made, text = await keys.create(
            operator(), tenant=options.tenant, user=options.user, scopes=scopes, expires_at=expires_at
        )
    if options.json:
        shown = _Made(made.id, text, made.tenant, made.user_id, made.scopes, made.created_at, made.expires_at)
        print(msgspec.json.encode(shown).decode())
    else:
        whose = f"tenant {made.tenant}" + ("" if made.user_id is None else f", user {made.user_id}")
        until = "never expires" if made.expires_at is None else f"expires {_time(made.expires_at)}"
        print(f"made {made.id}: {whose}; {', '.join(made.scopes)}; {until}", file=sys.stderr)
        print("Keep the key now: it is not shown again. Once there is a key, every request needs one.", file=sys.stderr)
        print(text)
    return DONE


@asynccontextmanager
async def _service(options: argparse.Namespace) -> AsyncIterator[KeyService]:
    settings = load_workspace(options.workspace, os.environ).settings
    async with open_database(settings) as db:
        yield KeyService(store=PostgresApiKeyStore(database=db))


def _table(keys: Sequence[ApiKey]) -> str:
    return columns([COLUMNS, *map(_row, keys)])


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        key.id, key.tenant, key.user_id or "-", ",".join(key.scopes), _time(key.created_at), _time(key.expires_at),
        _time(key.last_used_at), _state(key),
    )  # fmt: skip


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "valid"


def _time(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
