"""`steadyhand doctor`: what is set up, what works, and what to do about the rest. Never shows a secret, never calls a model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Literal

import msgspec

from app.cli.commands import DONE, FAILED
from app.cli.database import reach_database
from app.cli.insecure import insecure
from app.domain.errors import ConfigError, SteadyhandError
from app.main import VERSION
from app.settings import Settings
from app.storage.migrate import read_migrations, status
from app.storage.postgres.pool import connect
from app.storage.redis.link import Link
from app.wiring.budgets import check_budgets
from app.workspace.load import load_workspace

_CONNECTED = """
SELECT substr(application_name, length('steadyhand bus 01234567 ') + 1) FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'steadyhand bus ') ORDER BY backend_start
"""
"""The processes that serve or execute runs: each has one connection of that name."""


_KEYS = """
SELECT
    (
        SELECT count(*) FROM api_keys
        WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
    ) AS usable,
    (SELECT changes > 0 FROM key_changes) AS closed
"""
"""How many keys may be used, and whether there ever was one, which closes a service for good."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "warning", "failed"]
    detail: str


async def run(options: argparse.Namespace) -> int:
    """Exit code 1 where something failed."""
    findings = [Finding("version", "ok", f"steadyhand {VERSION}, Python {sys.version.split()[0]}")]
    try:
        workspace = load_workspace(options.workspace, os.environ)
        await check_budgets(workspace)
    except ConfigError as error:
        findings += [Finding("workspace", "failed", str(problem)) for problem in error.problems]
    else:
        names = ", ".join(sorted(workspace.agents))
        findings.append(Finding("workspace", "ok", f"{workspace.folder}: agents {names}"))
        findings += _models(workspace.settings)
        folders = (workspace.folder, Path.cwd())
        findings += [Finding("safety", "warning", text) for text in insecure(workspace.settings, os.environ, folders)]
        findings += await _database(workspace.settings)
        findings += await _redis(workspace.settings)
    if options.json:
        print(msgspec.json.encode({"findings": findings}).decode())
    else:
        for finding in findings:
            print(f"{finding.status:8} {finding.check:12} {finding.detail}")
    return FAILED if any(finding.status == "failed" for finding in findings) else DONE


def _models(settings: Settings) -> list[Finding]:
    findings = [Finding("settings", "warning", text) for text in (*settings.warnings, *settings.advice)]
    for name, route in sorted(settings.routes.items()):
        chain = " -> ".join(f"{target.provider}/{target.model}" for target in route.chain)
        findings.append(Finding(f"model {name}", "ok", f"{chain} (configured; no call was made)"))
    for name, tiered in sorted(settings.tiers.items()):
        choice = ", ".join(f"{tier} {route}" for tier, route in tiered.routes.items())
        findings.append(Finding(f"model {name}", "ok", f"{choice}; where nothing tells, {tiered.default}"))
    return findings


async def _database(settings: Settings) -> list[Finding]:
    try:
        async with reach_database(settings) as database:
            connection = await connect(database.direct)
            try:
                server = await connection.fetchval("SHOW server_version")
                schema = await status(connection, read_migrations())
                keys = None if schema.pending else await connection.fetchrow(_KEYS)
                processes = [row[0] for row in await connection.fetch(_CONNECTED)]
            finally:
                await connection.close(timeout=5.0)
    except SteadyhandError as error:
        return [Finding("database", "failed", str(error))]
    found = [Finding("database", "ok", f"{database.name}, version {server}")]
    if processes:
        found.append(Finding("processes", "ok", f"{len(processes)} connected: {'; '.join(processes)}"))
    else:
        found.append(Finding("processes", "ok", "none connected"))
    if schema.pending:
        how = "`serve` applies them" if database.embedded else "run `steadyhand migrate`"
        found.append(Finding("migrations", "warning", f"{len(schema.pending)} pending; {how}"))
    else:
        found.append(Finding("migrations", "ok", f"{len(schema.applied)} applied, none pending"))
        assert keys is not None
        found.append(_access(settings, keys["usable"], closed=keys["closed"] is not False))
    return found


def _access(settings: Settings, keys: int, *, closed: bool) -> Finding:
    """Who may use the service. `closed`: there was a key once."""
    tokens = settings.auth.jwt_issuer is not None
    told = f"{keys} API keys may be used" + (f"; tokens of {settings.auth.jwt_issuer} are taken" if tokens else "")
    if keys or tokens:
        return Finding("access", "ok", told)
    if closed:
        text = "no API key may be used: every one was revoked or has expired, and every request is refused; `keys create` makes one"
    else:
        text = "there never was an API key: on this machine a service without any lets everybody in; `keys create` makes one"
    return Finding("access", "warning", text)


async def _redis(settings: Settings) -> list[Finding]:
    if settings.redis.url is None:
        return []
    try:
        link = Link(url=settings.redis.url)
    except ConfigError as error:
        return [Finding("redis", "failed", str(error))]
    try:
        wrong = await link.health()
    finally:
        await link.client.aclose()
    if wrong is None:
        return [Finding("redis", "ok", "it answers")]
    text = f"cannot be reached: {wrong}; runs go on, other processes see whole messages instead of growing text"
    return [Finding("redis", "warning", text)]
