"""Promises of the checkout itself: where the lock file downloads from, what the files may not name, the schema, the commands."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from app.cli.commands import _parser
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.pool import connect
from tests.postgres_server import sibling

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    """The checkout's files, of a git clone; an unpacked archive has no list of its own."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_lock_file_downloads_from_pypi_only() -> None:
    def texts(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    hosts = {urlsplit(text).hostname for text in texts(tomllib.loads((ROOT / "uv.lock").read_text())) if "://" in text}
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_no_file_names_a_place_of_its_authors() -> None:
    patterns = (
        *("/wo" + "rk/", r"/home/\w+/", "/ro" + "ot/", "/Us" + r"ers/\w+/", r"\.lib" + "rary", "/opt/py" + "pi"),
        *(r"\b[a-z0-9-]+\.(internal|corp|lan|local)\b:\d", "dev" + "pi", "artif" + "actory"),
    )
    private = re.compile("|".join(patterns))
    found = []
    for path in tracked():
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in private.finditer(text)]
    assert found == []


SHAPE = """
SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) || convalidated
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""


async def shape(dsn: str) -> list[tuple[str, str, str]]:
    connection = await connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(SHAPE)]
    finally:
        await connection.close()


async def test_release_by_release_gives_the_schema_of_a_fresh_database(postgres: str, database: str) -> None:
    name = f"t_{uuid4().hex}"
    admin = await connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        stepwise, migrations = sibling(postgres, name), read_migrations()
        for last in range(1, len(migrations) + 1):
            assert await migrate(stepwise, migrations[:last]) == (migrations[last - 1].name,)
        at_once = await shape(database)
        assert ("column", "runs.id") in {row[:2] for row in at_once}
        assert await shape(stepwise) == at_once
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


def commands() -> list[str]:
    chosen = next(action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return sorted(chosen.choices)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], *([name, "--help"] for name in commands())], ids=" ".join
)
def test_every_command_says_what_it_does(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if arguments == ["--version"]:
        assert done.stdout == f"steadyhand {version('steadyhand')}\n"
    else:
        assert " ".join(["usage: steadyhand", *arguments[:-1]]) in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["serve", "--no-such-option"], ["serve", "--role", "worker"]], ids=str
)
def test_wrong_usage_exits_2_and_says_why(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "steadyhand" in done.stderr


def test_every_command_has_its_file() -> None:
    assert [name for name in commands() if not (ROOT / "app" / "cli" / f"{name.replace('-', '_')}.py").exists()] == []
