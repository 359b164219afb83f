"""What the small commands do with their options, and how they fail."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from app.cli.commands import DONE, FAILED, USAGE, run
from app.storage.postgres.hints import PostgresHints
from app.storage.postgres.pool import connect

SETTINGS = 'default_agent = "mine"\n'
AGENT = "description: Mine\nkind: chat\ninstructions: Be mine.\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A workspace with everything that a folder of somebody's may hold."""
    files = {
        "steadyhand.toml": SETTINGS,
        "steadyhand.production.toml": "",
        "agents/mine.yaml": AGENT,
        "tools/_shared.py": "ONE = 1\n",
        ".env": "SECRET=1\n",
        "README.md": "mine",
        ".venv/lib/module.py": "",
        ".steadyhand/postgres/x.toml": "",
    }
    for name, text in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mine"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_init_copies_the_workspace_that_is_given(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert run(["init", str(folder), "--workspace", str(mine)]) == DONE
    written = {"steadyhand.toml", "steadyhand.production.toml", "agents/mine.yaml", "tools/_shared.py"}
    assert names(folder) == written
    assert (folder / "agents/mine.yaml").read_text() == AGENT
    said = capsys.readouterr().out
    assert all(f"wrote {folder / name}\n" in said for name in written)
    assert run(["validate", "--workspace", str(folder)]) == DONE
    (folder / "agents/mine.yaml").write_text("changed")
    assert run(["init", str(folder), "--workspace", str(mine)]) == FAILED
    assert "is already there" in capsys.readouterr().err
    assert (folder / "agents/mine.yaml").read_text() == "changed"


def test_init_without_one_writes_the_shipped_one(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "new")]) == DONE
    assert {"steadyhand.toml", "agents/assistant.yaml"} <= names(tmp_path / "new")
    assert run(["validate", "--workspace", str(tmp_path / "new")]) == DONE


@pytest.mark.parametrize("command", [["init", "NEW"], ["openapi"]])
def test_a_workspace_that_does_not_load_is_refused(
    command: list[str], mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "new") if word == "NEW" else word for word in command]
    (mine / "agents/mine.yaml").write_text("kind: nonsense\n")
    for folder, why in ((mine, "agents/mine.yaml"), (tmp_path / "nowhere", "there is no such folder")):
        assert run([*words, "--workspace", str(folder)]) == FAILED
        said = capsys.readouterr()
        assert said.out == ""
        assert why in said.err
    assert not (tmp_path / "new").exists()


def test_the_openapi_document_is_the_same_for_every_workspace(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["openapi"]) == run(["openapi", "--workspace", str(mine)]) == DONE
    decoder, out = json.JSONDecoder(), capsys.readouterr().out
    first, end = decoder.raw_decode(out)
    second, end = decoder.raw_decode(out[end:].lstrip())
    assert first == second
    assert first["openapi"].startswith("3.")


@pytest.mark.parametrize("command", ["init", "openapi", "migrate", "serve", "worker"])
def test_every_command_says_what_workspace_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == DONE
    assert "--workspace DIR" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["migrate"], ["migrate", "--check"], ["doctor"]])
def test_a_failure_is_one_json_document(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@/nothing?host={tmp_path}")
    assert run([*command, "--json"]) == FAILED
    said = capsys.readouterr()
    document = json.loads(said.out)
    if command == ["doctor"]:
        assert [found["status"] for found in document["findings"] if found["check"] == "database"] == ["failed"]
    else:
        assert document == {"error": said.err.removeprefix("steadyhand: ").removesuffix("\n")}
        assert document["error"].startswith("PostgreSQL cannot be reached: ")
    assert run(command) == FAILED
    assert "{" not in capsys.readouterr().out


async def test_doctor_tells_a_service_that_is_open_from_one_that_nobody_can_use(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database)

    async def access() -> str:
        capsys.readouterr()
        assert await asyncio.to_thread(run, ["doctor", "--json"]) == DONE
        findings = json.loads(capsys.readouterr().out)["findings"]
        return next(str(finding["detail"]) for finding in findings if finding["check"] == "access")

    assert "lets everybody in" in await access()
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["keys", "create", "--json"]) == DONE
    key = json.loads(capsys.readouterr().out)["id"]
    assert "1 API keys may be used" in await access()
    assert await asyncio.to_thread(run, ["keys", "revoke", key]) == DONE
    assert "every request is refused" in await access()


async def test_doctor_looks_for_redis_and_for_who_is_connected(
    database: str, redis: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)

    async def found() -> dict[str, tuple[str, str]]:
        assert await asyncio.to_thread(run, ["doctor", "--json"]) == DONE
        findings = json.loads(capsys.readouterr().out)["findings"]
        return {finding["check"]: (finding["status"], finding["detail"]) for finding in findings}

    assert (await found())["processes"] == ("ok", "none connected")
    assert "redis" not in await found()
    monkeypatch.setenv("REDIS_URL", redis)
    hints = PostgresHints(dsn=database, command="worker")
    await hints.start(Nobody(), lambda: None)
    try:
        seen = await found()
        assert seen["redis"] == ("ok", "it answers")
        assert seen["processes"][1].startswith(f"1 connected: worker, pid {os.getpid()} on ")
    finally:
        await hints.aclose()
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:9")
    status, detail = (await found())["redis"]
    assert status == "warning"
    assert detail.startswith("cannot be reached: ")
    assert "secret" not in detail


class Nobody:
    """Is woken and does nothing."""

    def queued(self) -> None: ...

    def wrote(self, run_id: str) -> None: ...

    def posted(self, run_id: str) -> None: ...

    def dropped(self, labels: object) -> None: ...

    def switched(self) -> None: ...


def test_a_workspace_with_several_faults_is_one_json_document(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "steadyhand.toml").write_text("one = 1\ntwo = 2\n" + SETTINGS)
    assert run(["migrate", "--json", "--workspace", str(mine)]) == FAILED
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert [line.removeprefix("steadyhand: ") for line in said.err.splitlines()] == error.splitlines()
    assert len(error.splitlines()) == 2


@pytest.mark.parametrize("command", ["migrate", "doctor"])
async def test_what_nobody_expected_is_one_json_document_too(
    command: str, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await connect(database)
    try:
        await connection.execute("ALTER TABLE schema_migrations RENAME COLUMN checksum TO somebody_elses")
    finally:
        await connection.close()
    monkeypatch.setenv("DATABASE_URL", database)
    with pytest.raises(Exception, match="checksum"):
        await asyncio.to_thread(run, [command, "--json"])
    assert "checksum" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("wanted", ["1s", "soon", "9w"])
def test_a_time_that_is_none_names_the_forms(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "create", "--expires", wanted]) == USAGE
    said = capsys.readouterr().err
    assert "90d, 12h, 30m" in said
    assert "2027-01-31" in said
