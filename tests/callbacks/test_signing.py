from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from app.callbacks.signing import new_secret, signed_headers, signing_key
from app.cli.commands import DONE, FAILED, run
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.pool import open_pool
from tests.callbacks.conftest import SECRET


def test_a_signature_that_others_published() -> None:
    """The example of the specification's own libraries."""
    headers = signed_headers(signing_key(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == [
        (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        (b"webhook-timestamp", b"1614265330"),
        (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


def test_new_secrets() -> None:
    secrets = {new_secret() for _ in range(10)}
    assert len(secrets) == 10
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}
    assert {len(signing_key(secret)) for secret in secrets} == {32}


async def test_the_first_secret_stays(database: str) -> None:
    async with open_pool(database) as db:
        store = PostgresCallbackStore(database=db)
        assert [await store.secret("one", fresh) for fresh in ("a", "b")] == ["a", "a"]
        assert await store.secret("two", "c") == "c"


def test_the_command_shows_the_configured_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEADYHAND_CALLBACK_SECRET", SECRET)
    monkeypatch.setenv("STEADYHAND_DATA_DIR", str(tmp_path / "none"))
    assert run(["callback-secret"]) == DONE
    assert capsys.readouterr().out == f"{SECRET}\n"
    monkeypatch.setenv("STEADYHAND_CALLBACK_SECRET", "hunter2")
    assert run(["callback-secret", "--json"]) == FAILED
    said = capsys.readouterr()
    assert "callbacks.secret_env" in said.err
    assert "hunter2" not in said.err + said.out
    assert not (tmp_path / "none").exists()


async def test_the_command_shows_the_shared_secret(
    database: str, postgres: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    assert await asyncio.to_thread(run, ["callback-secret", "--json"]) == DONE
    made = json.loads(capsys.readouterr().out)["secret"]
    assert made.startswith("whsec_")
    assert await asyncio.to_thread(run, ["callback-secret"]) == DONE
    assert capsys.readouterr().out == f"{made}\n"
    monkeypatch.setenv("DATABASE_URL", postgres)  # never migrated
    assert await asyncio.to_thread(run, ["callback-secret"]) == FAILED
    assert "steadyhand migrate" in capsys.readouterr().err
