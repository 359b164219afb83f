"""`steadyhand batch`: files in, results out, against the offline provider and a service that runs."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from app.cli.batch_file import MAX_ITEMS, BadFile, pieces
from app.storage.postgres.pool import connect
from tests.batches.vendor import Vendor, vendor
from tests.e2e import service as services
from tests.waiting import until

SETTINGS = 'default_agent = "tagger"\n'
AGENT = "description: Tags\nkind: chat\ninstructions: Tag it.\n"
FILES = {"steadyhand.toml": SETTINGS, "agents/tagger.yaml": AGENT, "agents/other.yaml": AGENT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    services.workspace(tmp_path, FILES)
    return tmp_path


def written(folder: Path, *lines: Any) -> str:
    file = folder / "items.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(file)


async def test_a_file_is_answered_in_its_order_and_sent_once(folder: Path, database: str) -> None:
    lines = [{"input": "one"}, {"message": "two", "agent": "other", "custom_id": "x"}, "", {"input": {"three": 3}}]
    file, environ = written(folder, *lines), {"DATABASE_URL": database}
    assert (await services.run(folder, "migrate", environ=environ))[0] == 0
    code, out, err = await services.run(folder, "batch", file, environ=environ)
    assert code == 0, err
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["custom_id"] for result in results] == ["1", "x", "4"]
    assert {result["status"] for result in results} == {"succeeded"}
    assert "ended, 2 of 2 done" in err
    again = await services.run(folder, "batch", file, "--json", "--output", str(folder / "out.json"), environ=environ)
    assert (again[0], again[1]) == (0, "")
    told = json.loads((folder / "out.json").read_text())
    assert told["results"] == results
    assert {batch["agent"] for batch in told["batches"]} == {"tagger", "other"}
    connection = await connect(database)
    assert await connection.fetchval("SELECT count(*) FROM batches") == 2
    assert (await services.run(folder, "batch", file, "--new", environ=environ))[0] == 0
    assert await connection.fetchval("SELECT count(*) FROM batches") == 4
    await connection.close()


@pytest.mark.long
async def test_a_running_service_does_it_and_ctrl_c_leaves_it_running(folder: Path, database: str) -> None:
    async with vendor() as remote:
        remote.ends_after = None
        services.workspace(folder, FILES | {"steadyhand.toml": SETTINGS + route(remote)})
        file, environ = written(folder, {"input": "one"}, {"input": "two"}), {"DATABASE_URL": database}
        assert (await services.run(folder, "migrate", environ=environ))[0] == 0
        async with services.serve(folder, environ=environ) as service:
            command = ("batch", file, "--url", service.url)
            waiting = await services.launch(folder, *command, environ=environ)
            await until(lambda: "in_progress" in waiting.stderr)
            waiting.signal(signal.SIGINT)
            assert await waiting.exit() == 1
            await waiting.client.aclose()
            assert f"steadyhand batch {file} --url {service.url}" in waiting.stderr
            again = asyncio.create_task(services.run(folder, *command, environ=environ))
            remote.only().state = "ended"
            code, out, _ = await again
    assert code == 0
    assert [json.loads(line)["output"] for line in out.splitlines()] == ["You said: one", "You said: two"]
    assert remote.sent == 2


def route(remote: Vendor) -> str:
    return (
        f'[providers.near]\nkind = "openai"\nbase_url = "{remote.url}/v1"\napi_key_env = ""\nbatch = true\n'
        '[models.default]\nchain = ["near/m"]\n'
    )


@pytest.mark.long
async def test_what_is_wrong_is_said_with_its_place(folder: Path, database: str) -> None:
    environ = {"DATABASE_URL": database}
    for line, why in (
        ("{", "items.jsonl:1:"),
        ({"input": 1, "message": "x"}, "must have either `input` or `message`"),
        ({"input": 1, "x": 2}, "unknown field `x`"),
        ("", "has no items"),
    ):
        code, out, err = await services.run(folder, "batch", written(folder, line), environ=environ)
        assert (code, out) == (2, "")
        assert why in err
    code, _, err = await services.run(folder, "batch", str(folder / "none.jsonl"), environ=environ)
    assert (code, "No such file" in err) == (2, True)
    code, _, err = await services.run(folder, "batch", written(folder, {"input": 1}), "--agent", "no", environ=environ)
    assert (code, "There is no agent 'no'" in err) == (1, True)
    twice = written(folder, {"input": 1, "custom_id": "a"}, {"input": 2, "custom_id": "a"})
    code, _, err = await services.run(folder, "batch", twice, environ=environ)
    assert (code, "items[1].custom_id: stands there twice" in err) == (1, True)


def test_long_files_become_several_batches(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text('{"input":"x"}\n' * (MAX_ITEMS + 1))
    found = pieces(file, None, None)
    assert [len(piece.places) for piece in found] == [MAX_ITEMS, 1]
    assert [place for piece in found for place in piece.places] == list(range(MAX_ITEMS + 1))
    assert [piece.key for piece in found] == [piece.key for piece in pieces(file, None, None)]
    assert {piece.key for piece in found}.isdisjoint(piece.key for piece in pieces(file, "other", None))
    file.write_text(json.dumps({"input": "x" * 3_000_000}) + "\n" + json.dumps({"input": "y" * 3_000_000}) + "\n")
    assert [piece.places for piece in pieces(file, None, None)] == [(0,), (1,)]
    with pytest.raises(BadFile, match="No such file"):
        pieces(tmp_path / "none", None, None)
