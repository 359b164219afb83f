"""Keys in the database: their digests, who may use them, that they change, and what the audit log says of it."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.access.bootstrap import keep_first_key
from app.access.format import digest_of, is_key, new_key
from app.access.keys import KeyService
from app.domain.access import Valid
from app.domain.errors import ConfigError, RequestError
from app.domain.principals import ANONYMOUS, Principal
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.storage.postgres.audit import PostgresAuditLog
from app.storage.postgres.pool import open_pool

BY = Principal(tenant="default")
ACME = Principal(tenant="acme")


async def valid(store: PostgresApiKeyStore, digest: bytes) -> Valid | None:
    """The key of that digest, asked for beside others that are not there."""
    found = await store.valid([b"another", digest, b"no digest"])
    assert set(found) <= {digest}
    return found.get(digest)


async def test_a_key_is_made_used_and_revoked(database: str) -> None:
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        keys = KeyService(store=store)
        assert (await store.state()).changes == 0
        made, text = await keys.create(BY, tenant="acme", user="ann", scopes=["usage", "runs", "runs"], expires_at=None)
        assert made.scopes == ("runs", "usage")
        assert (await store.state()).changes == 1
        assert await store.usable() == 1
        found = await valid(store, digest_of(text))
        assert found is not None
        assert (found.id, found.seconds) == (made.id, None)
        assert found.principal == Principal(
            tenant="acme", user="ann", scopes=frozenset({"runs", "usage"}), actor=f"key:{made.id}"
        )
        await store.used({made.id: 30.0, "gone": 1.0})
        await store.used({made.id: 60.0})
        (listed,) = await keys.keys("acme")
        assert listed.last_used_at is not None
        assert timedelta(seconds=29) < datetime.now(UTC) - listed.last_used_at < timedelta(seconds=59)
        assert await keys.keys("default") == []
        assert [key.id for key in await keys.keys(None)] == [made.id]
        revoked = await keys.revoke(BY, made.id)
        assert await keys.revoke(BY, made.id) == revoked, "a second time changes nothing"
        assert (await store.state()).changes == 2
        assert await valid(store, digest_of(text)) is None
        assert await store.usable() == 0
        with pytest.raises(RequestError, match="key_nope"):
            await keys.revoke(BY, "key_nope")
        entries = await PostgresAuditLog(database=opened).entries(ACME, None, None, None, 10)
        assert [(entry.actor, entry.action, entry.target) for entry in entries] == [
            ("local", "key.revoked", made.id), ("local", "key.created", made.id),
        ]  # fmt: skip
        assert entries[1].detail == {"user_id": "ann", "scopes": ["runs", "usage"], "expires_at": None}


async def test_the_key_itself_is_nowhere(database: str) -> None:
    async with open_pool(database) as opened:
        _, text = await KeyService(store=PostgresApiKeyStore(database=opened)).create(
            BY, tenant="acme", user=None, scopes=["runs"], expires_at=None
        )
        for table in ("api_keys", "audit", "key_changes"):
            for row in await opened.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t"):
                assert text not in row["row"]
                assert text[17:] not in row["row"], "nor its secret"


async def test_a_key_expires(database: str) -> None:
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        keys = KeyService(store=store)
        now = datetime.now(UTC)
        _, soon = await keys.create(BY, tenant="a", user=None, scopes=["runs"], expires_at=now + timedelta(hours=1))
        _, over = await keys.create(BY, tenant="a", user=None, scopes=["runs"], expires_at=now - timedelta(seconds=1))
        found = await valid(store, digest_of(soon))
        assert found is not None
        assert found.seconds is not None
        assert 3500 < found.seconds <= 3600
        assert await valid(store, digest_of(over)) is None
        assert await store.usable() == 1
        assert (await store.state()).changes == 2


@pytest.mark.parametrize("tenant", ["", ".", "a b", "a\n", "ä", "x" * 129, "-a", "a/b"])
async def test_a_tenant_has_a_plain_name(database: str, tenant: str) -> None:
    async with open_pool(database, pool_min=1, pool_max=1) as opened:
        keys = KeyService(store=PostgresApiKeyStore(database=opened))
        with pytest.raises(RequestError, match="tenant"):
            await keys.create(BY, tenant=tenant, user=None, scopes=["runs"], expires_at=None)
        with pytest.raises(RequestError, match="user"):
            await keys.create(
                BY, tenant="a", user=tenant if tenant in ("", "a\n") else "\x00", scopes=["runs"], expires_at=None
            )
        assert await keys.keys(None) == []


async def test_changes_at_once_are_all_counted(database: str) -> None:
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        keys = KeyService(store=store)
        made = await asyncio.gather(
            *(keys.create(BY, tenant="a", user=None, scopes=["runs"], expires_at=None) for _ in range(20))
        )
        assert (await store.state()).changes == 20
        await asyncio.gather(*(keys.revoke(BY, key.id) for key, _ in made for _ in range(2)))
        assert (await store.state()).changes == 40


@pytest.mark.parametrize("text", [new_key()[0], "0123456789abcdef0123456789abcdef"], ids=["ours", "an operator's"])
async def test_the_bootstrap_file_holds_the_first_admin_key(database: str, tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{text}\n")
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        await asyncio.gather(*(keep_first_key(store, file) for _ in range(4)))  # as several replicas begin at once
        found = await valid(store, digest_of(text))
        assert found is not None
        assert found.principal == Principal(tenant="default", scopes=frozenset({"admin"}), actor=f"key:{found.id}")
        state = await store.state()
        assert state.changes == 1
        assert state.free_form == (frozenset() if is_key(text) else {digest_of(text)})
        await store.revoke(BY, found.id)
        await keep_first_key(store, file)
        assert await valid(store, digest_of(text)) is None, "a revocation stays"
        entries = await PostgresAuditLog(database=opened).entries(ANONYMOUS, "key.created", None, None, 10)
        assert [(entry.actor, entry.target) for entry in entries] == [("system", found.id)]


async def test_a_bootstrap_file_that_is_not_there_is_written(database: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        await keep_first_key(store, file)
        text = file.read_text().strip()
        assert is_key(text)
        assert file.stat().st_mode & 0o777 == 0o600
        assert os.listdir(tmp_path) == [file.name]
        await keep_first_key(store, file)
        assert file.read_text().strip() == text
        assert await valid(store, digest_of(text)) is not None
        assert await store.usable() == 1


@pytest.mark.parametrize(
    "content", [b"", b"short", b"with spaces in it, so that it is none", b"\xff\xfe" * 20, b"a.b" * 20]
)
async def test_a_bootstrap_file_without_a_key_stops_the_start(database: str, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    async with open_pool(database, pool_min=1, pool_max=1) as opened:
        store = PostgresApiKeyStore(database=opened)
        with pytest.raises(ConfigError, match=r"auth\.bootstrap_key_file"):
            await keep_first_key(store, file)
        with pytest.raises(ConfigError, match=r"auth\.bootstrap_key_file"):
            await keep_first_key(store, tmp_path / "nowhere" / "key")
        assert await store.usable() == 0


async def test_a_bootstrap_file_that_anybody_may_write_or_guess_is_refused(database: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    async with open_pool(database) as opened:
        store = PostgresApiKeyStore(database=opened)
        for text in ("a" * 24, "abc" * 20, "0" * 512):
            file.write_text(text)
            with pytest.raises(ConfigError, match="guessed") as caught:
                await keep_first_key(store, file)
            assert text not in str(caught.value)
        file.write_text(new_key()[0])
        file.chmod(0o602)
        with pytest.raises(ConfigError, match="write it"):
            await keep_first_key(store, file)
        assert (await store.state()).changes == 0
        file.chmod(0o444)  # as secrets are mounted
        await keep_first_key(store, file)
        assert (await store.state()).changes == 1
