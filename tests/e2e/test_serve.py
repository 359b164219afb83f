"""`steadyhand serve` on a fresh machine: no configuration, no network, no key; and everything that it refuses to start with."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.provider import StandIn
from tests.e2e.service import MODULE, Service, launch, run, serve, workspace
from tests.e2e.wires import says
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded PostgreSQL needs Unix sockets")


async def test_with_no_configuration_it_calculates_and_shares_its_folder(tmp_path: Path) -> None:
    """Also: what else may be done with the folder meanwhile. Takes 10 s: that long a second `serve` waits for the first, on its folder; not on its database, which may have many."""
    async with serve(tmp_path) as service:
        dsn = msgspec.json.decode((tmp_path / "data" / "owner.json").read_bytes())["dsn"]
        second = await launch(tmp_path, "serve", "--port", "0")
        third = await launch(tmp_path, "serve", "--port", "0", environ={"DATABASE_URL": dsn})
        try:
            await asyncio.gather(_arithmetic(service), _streamed(service), _port_taken(service, tmp_path))
            await _commands_beside(tmp_path)
            assert await second.exit() == 1
            assert f"is in use by process {service.pid} (" in second.stderr
            assert "serve --port 0" in second.stderr
            assert "Traceback" not in second.stderr
            await third.started()
            assert "6 * 7 = 42" in (await third.chat("What is 6 * 7?"))["response"]
            third.signal(signal.SIGTERM)
            assert await third.exit() == 0
        finally:
            for other in (second, third):
                await other.client.aclose()
                await other.kill()
        assert (await service.get("/readiness")).status_code == 200
        service.signal(signal.SIGTERM)
        assert await service.exit() == 0


async def _arithmetic(service: Service) -> None:
    pick = random.Random(20_261_121)
    questions: list[tuple[str, int]] = []
    for _ in range(4):
        a, b = pick.randint(-9_999, 99_999), pick.randint(2, 99_999)
        questions += [
            (f"What is {a} * {b}?", a * b),
            (f"please add {abs(a)} + {b}", abs(a) + b),
            (f"How much is {abs(a)} - {b}", abs(a) - b),
            (f"What is {abs(a)} times {b}?", abs(a) * b),
        ]

    async def ask(question: str, right: int) -> None:
        answered = await service.chat(question)
        assert str(right) in answered["response"].replace(",", ""), question
        (finished,) = [e["data"] for e in await service.events(answered["run_id"]) if e["event"] == "tool.finished"]
        assert (finished["name"], finished["status"], finished["result"]) == ("calculator", "ok", str(right)), question
        assert finished["result"] in answered["response"], question

    await asyncio.gather(*(ask(*question) for question in questions))


async def _streamed(service: Service) -> None:
    async with service.stream("POST", "/chat/stream", {"message": "What is 123456789 * 987654321?"}) as frames:
        events = await frames.rest()
    names = [name for _, name, _ in events]
    assert list(dict.fromkeys(names)) == ["start", "tool", "chunk", "done"]
    assert [data["status"] for _, name, data in events if name == "tool"] == ["started", "ok"]
    text = "".join(data["text"] for _, name, data in events if name == "chunk")
    assert text == events[-1][2]["result"]
    assert "121932631112635269" in text


async def _port_taken(service: Service, folder: Path) -> None:
    code, out, said = await run(
        folder, "serve", "--port", str(service.port), environ={"STEADYHAND_DATA_DIR": str(folder / "other")}
    )
    assert (code, out) == (1, "")
    assert said.startswith(f"steadyhand: cannot listen on 127.0.0.1:{service.port}: ")
    assert f"by process {service.pid} (" in said
    assert not (folder / "other").exists()


async def _commands_beside(folder: Path) -> None:
    migrated, checked, doctor, again = await asyncio.gather(
        run(folder, "migrate"),
        run(folder, "migrate", "--check", "--json"),
        run(folder, "doctor", "--json"),
        run(folder, "doctor"),
    )
    assert migrated[0] == 0, migrated
    assert "0 pending" in migrated[1]
    assert checked[0] == 0, checked
    schema = msgspec.json.decode(checked[1])
    assert (schema["pending"], schema["applied"]) == ([], [])
    assert doctor[0] == 0, doctor
    findings = {found["check"]: found for found in msgspec.json.decode(doctor[1])["findings"]}
    assert findings["database"]["status"] == findings["migrations"]["status"] == "ok"
    assert (again[0], "embedded PostgreSQL" in again[1]) == (0, True)


async def test_what_it_refuses_to_start_with(tmp_path: Path) -> None:
    async def refused(name: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
        folder = tmp_path / name
        folder.mkdir()
        if name == "wrong":
            workspace(
                folder, {"steadyhand.toml": 'nonsense = 1\n[server]\nport = "eighty"\n[admission]\nnotify = [1]\n'}
            )
        if name == "broken":
            workspace(
                folder, {"agents/a.yaml": "kind: react\ntools: [nothing]\n", "steadyhand.toml": 'default_agent = "a"'}
            )
        if name == "keyless":
            workspace(folder, {"steadyhand.toml": '[models.default]\nchain = ["openai/gpt-5"]\n'})
        found = await run(folder, *arguments, environ=environ)
        assert "Traceback" not in found[2], found
        assert not (folder / "data").exists(), name
        return found

    wrong, broken, keyless, variable, open_to_all, worker, role, workers, unknown, nothing = await asyncio.gather(
        refused("wrong", "serve", "--port", "0"),
        refused("broken", "serve", "--port", "0"),
        refused("keyless", "serve", "--port", "0"),
        refused(
            "variable",
            "serve",
            "--port",
            "0",
            STEADYHAND__WORKER__CONCURRENCY="none",
            STEADYHAND__RETENTION__RUNS_DAYS="1",
        ),
        refused("open", "serve", "--port", "0", "--host", "0.0.0.0"),
        refused("worker", "worker", "--concurrency", "0"),
        refused("role", "serve", "--role", "worker"),
        refused("workers", "serve", "--workers", "0"),
        refused("unknown", "serve", "--nonsense"),
        refused("nothing"),
    )
    assert [found[0] for found in (wrong, broken, keyless, variable, open_to_all)] == [1] * 5
    assert [found[0] for found in (worker, role, workers, unknown, nothing)] == [2] * 5
    lines = wrong[2].splitlines()
    assert len(lines) == 3, lines
    for line, (number, key) in zip(sorted(lines), ((1, "nonsense"), (3, "port"), (5, "notify")), strict=True):
        assert line.startswith("steadyhand: "), line
        assert f"steadyhand.toml:{number}: " in line, line
        assert key in line, line
    assert "agents/a.yaml" in broken[2]
    assert "nothing" in broken[2]
    assert "OPENAI_API_KEY" in keyless[2]
    assert "STEADYHAND__WORKER__CONCURRENCY" in variable[2]
    assert "STEADYHAND__RETENTION" in variable[2]
    assert len(variable[2].splitlines()) == 2
    assert "--insecure" in open_to_all[2]
    for found in (wrong, broken, keyless, variable, open_to_all, worker, role, workers):
        assert found[1] == ""


async def test_insecure_is_said_loudly(tmp_path: Path, database: str) -> None:
    async with serve(tmp_path, "--host", "0.0.0.0", "--insecure", environ={"DATABASE_URL": database}) as service:
        assert "INSECURE" in service.banner
        service.client.base_url = f"http://127.0.0.1:{service.port}"
        await service.ready()


@pytest.mark.parametrize("options", [(), ("--workers", "1")], ids=["alone", "with a worker"])
async def test_a_folder_with_an_app_and_tools_of_its_own(
    tmp_path: Path, database: str, installed: tuple[str, ...], own_provider: StandIn, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "workspace"
    workspace(
        tmp_path,
        {
            "app/__init__.py": "raise RuntimeError('the wrong app')\n",
            "app/tools.py": "raise RuntimeError('the wrong app')\n",
            "tools/letters.py": (
                "import os\n\nfrom app.tools import ToolContext, tool\n\n\n"
                '@tool(risk="low", effect="read", returns="trusted")\n'
                "def count_letters(text: str, ctx: ToolContext) -> dict:\n"
                '    """Count letters."""\n'
                '    return {"letters": len(text), "session": ctx.session_id, "own": os.environ["OWN"]}\n'
            ),
            "agents/counter.yaml": "description: Counts\nkind: react\ninstructions: Count.\ntools: [count_letters, calculator]\n",
            "steadyhand.toml": 'default_agent = "counter"\n[providers.local]\nkind = "openai"\napi_key_env = ""\n'
            f'base_url = "{own_provider.url}/v1"\n[models.default]\nchain = ["local/model-1"]\n',
            ".env": "OWN=from-dotenv\n",
        },
    )
    async with serve(
        tmp_path, *options, command=installed, cwd=folder, environ={"DATABASE_URL": database, "PYTHONPATH": ""}
    ) as service:
        (listed,) = await service.json("/agents")
        assert (listed["name"], listed["tools"]) == ("counter", ["count_letters", "calculator"])
        own_provider.script("count", says(calls=[("c", "count_letters", '{"text": "seven!!"}')]), says("done"))
        assert (await service.chat("count", session_id="s"))["response"] == "done"
        (_, last) = own_provider.asked("count")
        assert msgspec.json.decode(last.results["c"]) == {"letters": 7, "session": "s", "own": "from-dotenv"}
        assert "authorization" not in last.headers


@pytest.fixture
def installed() -> tuple[str, ...]:
    """The `steadyhand` command; without an installation, the same from the module."""
    script = Path(sys.executable).with_name("steadyhand")
    return (str(script),) if script.exists() else MODULE


async def test_it_is_not_ready_until_somebody_migrates(tmp_path: Path, empty_database: str) -> None:
    async with serve(tmp_path, environ={"DATABASE_URL": empty_database}) as service:
        assert "MIGRATIONS PENDING" in service.banner
        response = await service.get("/readiness")
        body: dict[str, Any] = response.json()
        assert (response.status_code, body["status"], body["checks"]["migrations"]["status"]) == (
            503,
            "not_ready",
            "failed",
        )
        assert "steadyhand migrate" in body["checks"]["migrations"]["detail"]
        refused = await service.post("/chat", {"message": "What is 2 + 2?"})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "steadyhand migrate" in refused.json()["detail"]
        assert (await service.get("/healthz")).status_code == 200

        checked, done = (
            await run(tmp_path, "migrate", "--check", "--json", environ={"DATABASE_URL": empty_database}),
            None,
        )
        assert checked[0] == 1, checked
        assert msgspec.json.decode(checked[1])["pending"]
        done = await run(tmp_path, "migrate", environ={"DATABASE_URL": empty_database})
        assert done[0] == 0, done
        assert (await service.ready())["status"] == "ready"

        async def answers() -> bool:
            return (await service.post("/chat", {"message": "What is 2 + 2?"})).status_code == 200

        await until(answers)
