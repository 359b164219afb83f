"""The service as a role that may use the tables and owns none, as ops/database_role.sql makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from app.storage.postgres.pool import connect
from tests.e2e.service import ROOT, run, serve

RECIPE = ROOT / "ops" / "database_role.sql"


@pytest.fixture
async def role(database: str) -> AsyncIterator[str]:
    """The DSN of the database as such a role."""
    name, password = f"app_{uuid4().hex}", uuid4().hex
    owner = await connect(database)
    try:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        await owner.execute(RECIPE.read_text().replace(":role", name))
        _, _, place = database.partition("://")[2].partition("@")
        yield f"postgresql://{name}:{password}@{place}"
        await owner.execute(f"DROP OWNED BY {name}")
        await owner.execute(f"DROP ROLE {name}")
    finally:
        await owner.close()


async def test_the_service_needs_to_own_nothing(tmp_path: Path, role: str) -> None:
    environ = {"DATABASE_URL": role}
    async with serve(tmp_path, environ=environ) as service:
        answer = await service.chat("What is 6 * 7?", session_id="s")
        await service.json(f"/v1/runs/{answer['run_id']}")
        await service.json("/v1/usage?group_by=day")
        state = await service.client.put("/v1/sessions/s/state", json={"state": {"a": 1}})
        assert state.status_code == 200, state.text
        fork = await service.post("/v1/sessions/s/fork", {})
        assert fork.status_code == 201, fork.text
        assert (await service.client.delete("/v1/sessions/s")).status_code == 204
        for command in (
            ("keys", "create"), ("keys", "list"), ("controls", "disable", "agent", "chat"), ("audit",), ("usage",),
            ("doctor",), ("migrate", "--check"),
        ):  # fmt: skip
            code, out, errors = await run(tmp_path, *command, environ=environ)
            assert code == 0, (command, out, errors)
    assert [line for line in service.logs if line.get("level") in ("error", "critical")] == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit", "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_is_kept ON audit", "DROP TABLE audit", "ALTER TABLE audit RENAME TO gone",
        "CREATE OR REPLACE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "SET session_replication_role = replica", "DELETE FROM schema_migrations", "TRUNCATE api_keys", "CREATE TABLE x ()",
    ],
)  # fmt: skip
async def test_the_role_can_take_nothing_out_of_the_audit_log(role: str, statement: str) -> None:
    connection = await connect(role)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_a_later_migration_makes_may_be_used(database: str, role: str) -> None:
    owner, used = await connect(database), await connect(role)
    try:
        await owner.execute("CREATE TABLE later (id serial PRIMARY KEY)")
        await used.execute("INSERT INTO later DEFAULT VALUES")
        assert await used.fetchval("DELETE FROM later RETURNING id") == 1
    finally:
        await owner.close()
        await used.close()
