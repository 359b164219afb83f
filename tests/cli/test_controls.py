"""`steadyhand controls`: off and on for everybody, or for one tenant, with names that are checked."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

import msgspec
import pytest

from app.cli.commands import DONE, FAILED, USAGE, run


async def ran(*arguments: str) -> int:
    """A command has a loop of its own."""
    return await asyncio.to_thread(run, list(arguments))


@pytest.fixture
def mine(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.chdir(tmp_path)
    return ["--json"]


async def test_off_listed_and_on_again(mine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert await ran("controls", "disable", "agent", "assistant", "--reason", "wrong answers", *mine) == DONE
    control = msgspec.json.decode(capsys.readouterr().out)
    assert (control["kind"], control["name"], control["reach"], control["by"]) == (
        "agent",
        "assistant",
        "instance",
        f"local:{pwd.getpwuid(os.getuid()).pw_name}",
    )
    assert await ran("keys", "create", "--tenant", "acme") == DONE
    assert await ran("controls", "disable", "tool", "clock", "--tenant", "acme", *mine) == DONE
    capsys.readouterr()
    assert await ran("controls", "list", *mine) == DONE
    assert msgspec.json.decode(capsys.readouterr().out) == {"data": [control]}
    assert await ran("controls", "list", "--tenant", "acme") == DONE
    said = capsys.readouterr().out
    assert "agent assistant  off for everybody since" in said
    assert "tool clock  off for the tenant since" in said
    assert ": wrong answers" in said
    assert await ran("controls", "enable", "agent", "assistant", "--tenant", "acme", *mine) == FAILED
    assert "was not switched off for tenant acme" in capsys.readouterr().out
    assert await ran("controls", "enable", "agent", "assistant", *mine) == DONE
    assert await ran("controls", "disable", "tenant", "whoever", "--unseen", *mine) == DONE
    assert await ran("controls", "disable", "tenant", "acme", *mine) == DONE
    assert await ran("controls", "disable", "tenant", "default", *mine) == DONE
    assert await ran("controls", "enable", "tenant", "default", *mine) == DONE
    capsys.readouterr()
    assert await ran("controls", "list", *mine) == DONE
    assert [one["name"] for one in msgspec.json.decode(capsys.readouterr().out)["data"]] == ["acme", "whoever"]


async def test_a_name_that_is_nobodys_switches_nothing_off(mine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert await ran("controls", "disable", "agent", "asistant", *mine) == FAILED
    assert "Did you mean assistant?" in capsys.readouterr().out
    assert await ran("controls", "disable", "tenant", "b", "--tenant", "a", *mine) == FAILED
    assert await ran("controls", "disable", "model", "x", *mine) == USAGE
    for words in (
        ("tenant", "acmee"),
        ("tenant", "acmee", "--tenant", "acmee"),
        ("tool", "clock", "--tenant", "acmee"),
    ):
        capsys.readouterr()
        assert await ran("controls", "disable", *words, *mine) == FAILED
        assert "of a tenant 'acmee'" in capsys.readouterr().out
    capsys.readouterr()
    assert await ran("controls", "list") == DONE
    assert capsys.readouterr().out == "nothing is switched off\n"
