"""The audit log: written, read by pages, never changed."""

from __future__ import annotations

import asyncpg
import pytest

from app.domain.audit import AuditEntry
from app.domain.principals import ANONYMOUS, Principal
from app.storage.postgres.audit import PostgresAuditLog
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.pool import open_pool

ANN = Principal(tenant="default", user="ann", actor="key:k1")


def told(entries: list[AuditEntry]) -> list[tuple[str, str | None, str, str, object]]:
    return [(entry.actor, entry.user_id, entry.action, entry.target, entry.detail) for entry in entries]


async def test_entries_are_read_newest_first_by_their_own_tenant(database: str) -> None:
    async with open_pool(database) as opened:
        log = PostgresAuditLog(database=opened)
        await log.record(ANONYMOUS, "key.created", "k1", {"scopes": ["runs"]})
        await log.record(ANN, "approval.approved", "apr_1", {})
        await log.record(Principal(tenant="other"), "key.created", "k2", {})
        made = ("local", None, "key.created", "k1", {"scopes": ["runs"]})
        approved: tuple[str, str | None, str, str, object] = ("key:k1", "ann", "approval.approved", "apr_1", {})
        entries = await log.entries(ANONYMOUS, None, None, None, 10)
        assert told(entries) == [approved, made]
        assert told(await log.entries(ANONYMOUS, None, None, entries[0].id, 10)) == [made]
        assert told(await log.entries(ANONYMOUS, "key.created", None, None, 10)) == [made]
        assert told(await log.entries(ANONYMOUS, None, "apr_1", None, 10)) == [approved]
        assert told(await log.entries(ANN, None, None, None, 10)) == [approved]


async def test_what_is_about_all_tenants_is_in_everybodys_log(database: str) -> None:
    async with open_pool(database) as opened:
        log, controls = PostgresAuditLog(database=opened), PostgresControls(database=opened)
        operator = Principal(tenant="default", actor="local:root")
        await log.record(Principal(tenant="acme"), "key.created", "k1", {})
        await controls.disable(operator, "instance", "agent", "helper", "wrong answers")
        await controls.disable(operator, "instance", "tenant", "acme", None)
        await controls.disable(Principal(tenant="acme"), "tenant", "tool", "clock", None)
        everybodys = ("local:root", None, "control.disabled", "agent:helper", {"reach": "instance"})
        for tenant in ("default", "other"):
            assert told(await log.entries(Principal(tenant=tenant), None, None, None, 10)) == [everybodys]
            assert await log.entries(Principal(tenant=tenant, user="ann"), None, None, None, 10) == []
        entries = await log.entries(Principal(tenant="acme"), None, None, None, 10)
        assert [entry.target for entry in entries] == ["tool:clock", "tenant:acme", "agent:helper", "k1"]
        for at in range(4):
            before = entries[at - 1].id if at else None
            assert await log.entries(Principal(tenant="acme"), None, None, before, 1) == [entries[at]]
        assert told(await log.entries(Principal(tenant="acme"), None, "agent:helper", None, 10)) == [everybodys]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_database_keeps_every_entry(database: str, statement: str) -> None:
    async with open_pool(database) as opened:
        await PostgresAuditLog(database=opened).record(ANONYMOUS, "key.created", "k1", {})
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await opened.execute(statement)
        assert await opened.fetchval("SELECT count(*) FROM audit") == 1
