"""Who accepts runs and who executes them: `serve --workers N`, and `serve --role api` beside a `worker`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.cli.port import listen
from tests.e2e.conftest import KEY, files
from tests.e2e.provider import StandIn
from tests.e2e.service import Service, launch, processes, run, serve, until_gone, workspace
from tests.e2e.wires import hangs, says
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and the embedded PostgreSQL are Unix's")
ENVIRON = {"STAND_IN_KEY": KEY, "STEADYHAND__WORKER__LEASE": "2"}


def workers(service: Service) -> list[int]:
    """The worker processes that it started and that live."""
    return [pid for pid, command in processes(service.folder).items() if "-m app worker " in command]


def ports(service: Service) -> list[int]:
    """Where its workers are ready."""
    return [line["port"] for line in service.logs if line["event"] == "executing runs"]


async def calls(port: int) -> float:
    """How many model calls the process on that port made."""
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("agent_llm_calls_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def run_of(service: Service, session: str) -> dict[str, Any]:
    """That session's last run."""
    found: dict[str, Any] = (await service.json(f"/v1/runs?session_id={session}"))["data"][0]
    return found


async def ended(service: Service, session: str) -> bool:
    return (await run_of(service, session))["status"] in ("succeeded", "failed", "cancelled")


@pytest.mark.long
async def test_workers_execute_what_serve_accepts_and_are_gone_with_it(
    tmp_path: Path, database: str, own_provider: StandIn
) -> None:
    own_provider.script("hello", says("from a worker"))
    environ = ENVIRON | {"DATABASE_URL": database}
    workspace(tmp_path, files(own_provider.url))
    async with serve(tmp_path, "--workers", "2", environ=environ) as service:
        assert "2 processes execute the runs" in service.banner
        async with service.stream("POST", "/chat/stream", {"message": "hello"}) as frames:
            events = await frames.rest()
        assert [name for _, name, _ in events if name != "chunk"] == ["start", "done"]
        assert events[-1][2]["result"] == "from a worker"
        await until(lambda: len(ports(service)) == 2)
        assert await calls(service.port) == 0
        assert sorted([await calls(port) for port in ports(service)]) == [0, 1]
        assert len(workers(service)) == 2
        port = service.port
        await service.kill()
        await until_gone(tmp_path)
        listen("127.0.0.1", port, 1).close()


@pytest.mark.long
async def test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on(
    tmp_path: Path, database: str, own_provider: StandIn
) -> None:
    own_provider.script("hello", hangs("Half"), says("whole"))
    environ = ENVIRON | {"DATABASE_URL": database}
    workspace(tmp_path, files(own_provider.url))
    async with serve(tmp_path, "--workers", "1", environ=environ) as service:
        asked = asyncio.create_task(service.post("/chat", {"message": "hello", "session_id": "s"}))
        await own_provider.wait("hello")
        (victim,) = workers(service)
        os.kill(victim, signal.SIGKILL)
        answer = await asked
        assert (answer.status_code, answer.json()["response"]) == (200, "whole")
        assert workers(service) not in ([], [victim])
        assert "a worker ended and is going to be replaced" in [line["event"] for line in service.logs]


@pytest.mark.long
async def test_sigterm_ends_the_workers_and_loses_no_run(tmp_path: Path, database: str, own_provider: StandIn) -> None:
    own_provider.script("hello", hangs("Half"), says("whole"))
    workspace(tmp_path, files(own_provider.url))
    environ = ENVIRON | {"DATABASE_URL": database, "STEADYHAND__WORKER__DRAIN": "1"}
    async with serve(tmp_path, "--workers", "2", environ=environ) as service:
        port = service.port
        asked = asyncio.create_task(service.post("/chat", {"message": "hello", "session_id": "s"}))
        await own_provider.wait("hello")
        service.signal(signal.SIGTERM)
        assert await service.exit() == 0
        assert not processes(tmp_path)
        assert (await asked).status_code == 503
    async with serve(tmp_path, "--workers", "1", port=port, environ=environ) as service:
        await until(partial(ended, service, "s"))
        found = await run_of(service, "s")
        assert (found["status"], found["output"]) == ("succeeded", "whole")


@asynccontextmanager
async def worker(folder: Path, *arguments: str, environ: dict[str, str]) -> AsyncIterator[Service]:
    """A worker that said that it is ready."""
    started = await launch(folder, "worker", *arguments, environ=environ)
    try:
        await started.started()
        yield started
    except BaseException:
        sys.stderr.write(started.stderr[-8000:])
        raise
    finally:
        await started.aclose()


@pytest.mark.long
async def test_a_worker_beside_an_api_on_one_data_folder(tmp_path: Path, own_provider: StandIn) -> None:
    for message in ("one", "two"):
        own_provider.script(message, says(f"answer {message}"))
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        workspace(folder, files(own_provider.url))
    environ = ENVIRON | {"STEADYHAND_DATA_DIR": str(home / "data")}
    async with serve(home, "--role", "api", environ=environ) as api:
        port = api.port
        assert "NONE HERE" in api.banner
        asked = asyncio.create_task(api.chat("one"))
        async with worker(other, "--port", "0", "--concurrency", "3", environ=environ) as executing:
            assert "3 runs at once" in executing.banner
            assert (await asked)["response"] == "answer one"
            assert [await calls(one.port) for one in (api, executing)] == [0, 1]
            assert (await executing.get("/healthz")).json() == {"status": "ok"}
            assert (await executing.ready())["checks"]["database"]["status"] == "ok"
            assert (await executing.post("/chat", {"message": "hello"})).status_code == 404
            await _refused(other, executing)

            await api.kill()
            async with serve(home, "--role", "api", port=port, environ=environ) as again:
                assert (await again.chat("two"))["response"] == "answer two"
                executing.signal(signal.SIGTERM)
                assert await executing.exit() == 0
                assert "Traceback" not in executing.stderr
                await again.ready()


async def _refused(folder: Path, holder: Service) -> None:
    code, out, said = await run(folder, "worker", "--port", str(holder.port), environ=ENVIRON)
    assert (code, out) == (1, "")
    assert said.startswith(f"steadyhand: cannot listen on 127.0.0.1:{holder.port}: ")
    assert f"by process {holder.pid} (" in said


@pytest.mark.long
async def test_a_worker_that_comes_first_starts_the_database(tmp_path: Path, own_provider: StandIn) -> None:
    own_provider.script("hello", says("from a worker"))
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        workspace(folder, files(own_provider.url))
    async with worker(home, "--port", "0", environ=ENVIRON) as first:
        assert "embedded PostgreSQL in" in first.banner
        assert (await first.ready())["status"] == "ready"
        environ = ENVIRON | {"STEADYHAND_DATA_DIR": str(home / "data")}
        async with serve(other, "--role", "api", environ=environ) as api:
            assert (await api.chat("hello"))["response"] == "from a worker"


@pytest.mark.long
async def test_a_second_ctrl_c_reaches_the_workers(tmp_path: Path, database: str, own_provider: StandIn) -> None:
    own_provider.script("hello", hangs("Half"))
    environ = ENVIRON | {"DATABASE_URL": database}
    workspace(tmp_path, files(own_provider.url))
    async with serve(tmp_path, "--workers", "1", environ=environ) as service:
        asked = asyncio.create_task(service.post("/chat", {"message": "hello"}))
        await own_provider.wait("hello")
        service.signal(signal.SIGINT)
        await service.ready(503)
        assert service.process.returncode is None
        service.signal(signal.SIGINT)
        assert await service.exit(within=10) == 0
        assert not processes(tmp_path)
        assert (await asked).status_code == 503


async def test_a_worker_waits_for_whoever_migrates(tmp_path: Path, empty_database: str, own_provider: StandIn) -> None:
    workspace(tmp_path, files(own_provider.url))
    environ = ENVIRON | {"DATABASE_URL": empty_database}
    async with worker(tmp_path, "--port", "0", environ=environ) as waiting:
        assert "MIGRATIONS PENDING" in waiting.banner
        assert (await waiting.get("/readiness")).json()["checks"]["migrations"]["status"] == "failed"
        assert (await run(tmp_path, "migrate", environ=environ))[0] == 0
        assert (await waiting.ready())["status"] == "ready"
