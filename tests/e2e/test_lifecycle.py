"""How a service ends and comes back: killed, told to stop, in a hurry, and with its database gone for a while."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.cli.embedded.cluster import embedded_postgres
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.pool import connect
from tests.e2e import service as services
from tests.e2e.conftest import KEY, Serve, files
from tests.e2e.provider import StandIn
from tests.e2e.service import Service, processes, workspace
from tests.e2e.wires import hangs, says
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and the embedded PostgreSQL are Unix's")


async def test_sigkill_in_the_middle_and_at_once_again(tmp_path: Path, own_provider: StandIn) -> None:
    workspace(tmp_path, files(own_provider.url))
    environ = {"STAND_IN_KEY": KEY, "STEADYHAND__WORKER__CONCURRENCY": "2"}
    switch = tmp_path / "switch"
    own_provider.script("before", says("yes"))
    own_provider.script("talk", hangs("Half an"), says("A whole answer"))
    own_provider.script("work", says(calls=[("w", "wait_for", f'{{"path": "{switch}"}}')]), says("Who knows"))
    own_provider.script("queued", says("at last"))
    own_provider.script("talk on", says("again"))
    own_provider.script("work on", says("and again"))
    async with services.serve(tmp_path, environ=environ) as first:
        port = first.port
        await first.chat("before", session_id="talk")
        calls = [asyncio.create_task(_cut_off(first, "talk")), asyncio.create_task(_cut_off(first, "work"))]
        await own_provider.wait("talk")
        await until(switch.with_name("switch.begun").exists)
        calls.append(asyncio.create_task(_cut_off(first, "queued")))
        await until(lambda: _has(first, "queued", "queued"))
        before = processes(tmp_path)
        assert len(before) > 3
        await first.kill()
        killed = time.monotonic()
        await asyncio.gather(*calls)

        async with services.serve(tmp_path, port=port, environ=environ) as second:
            took = time.monotonic() - killed
            assert took < 15, f"{took:.1f} s"
            assert second.port == port
            await second.ready()
            assert not before.keys() & processes(tmp_path).keys()
            for session, output in (("talk", "A whole answer"), ("work", "Who knows"), ("queued", "at last")):
                await until(partial(_has, second, session, "queued", none=True))
                await until(partial(_has, second, session, "running", none=True))
                run = (await second.json(f"/v1/runs?session_id={session}"))["data"][0]
                assert (run["status"], run["output"]) == ("succeeded", output)
                assert run["outcome_unknown"] is (session == "work")
                events = await second.events(run["id"])
                assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
                attempts = [event["data"]["attempt"] for event in events if event["event"] == "run.started"]
                assert attempts == ([1] if session == "queued" else [1, 2])
                assert [event["event"] for event in events].count("run.finished") == 1
                assert events[-1]["event"] == "run.finished"
                if session == "work":
                    (tool,) = [event["data"] for event in events if event["event"] == "tool.finished"]
                    assert (tool["call_id"], tool["status"]) == ("w", "outcome_unknown")
                    assert "may have taken effect" in own_provider.asked("work")[1].results["w"]
            assert [m["content"] for m in (await second.json("/history/queued"))["messages"]] == ["queued", "at last"]

            assert (await second.chat("talk on", session_id="talk"))["response"] == "again"
            assert own_provider.asked("talk on")[0].texts("user") == ["before", "talk", "talk on"]
            assert own_provider.asked("talk on")[0].texts("assistant") == ["yes", "A whole answer"]
            assert (await second.chat("work on", session_id="work"))["response"] == "and again"
            (call,) = own_provider.asked("work on")
            assert call.calls == ["w"]
            assert "may have taken effect" in call.results["w"]


async def _cut_off(service: Service, message: str) -> None:
    """A turn whose connection breaks before its answer."""
    with pytest.raises(Exception, match=r".*") as broken:
        await service.post("/chat", {"message": message, "session_id": message})
    assert "Error" in type(broken.value).__name__


async def _has(service: Service, session: str, status: str, *, none: bool = False) -> bool:
    """Whether a run of that session has that status; `none`: whether there is no such run."""
    return bool((await service.json(f"/v1/runs?session_id={session}&status={status}"))["data"]) is not none


async def test_sigterm_drains(serve: Serve, own_provider: StandIn) -> None:
    json_gate, stream_gate = asyncio.Event(), asyncio.Event()
    own_provider.script("by json", says("patience ", json_gate, "pays"))
    own_provider.script("by stream", says("Once ", stream_gate, "upon a time"))
    own_provider.script("queued", says("never lost"))
    async with serve(environ={"STEADYHAND__WORKER__CONCURRENCY": "2"}) as first:
        port = first.port
        answer = asyncio.create_task(first.chat("by json", session_id="j"))
        await own_provider.wait("by json")
        async with first.stream("POST", "/chat/stream", {"message": "by stream", "session_id": "s"}) as frames:
            begun = await frames.until("chunk")
            queued = asyncio.create_task(first.post("/chat", {"message": "queued", "session_id": "q"}))
            await until(lambda: _has(first, "q", "queued"))
            first.signal(signal.SIGTERM)
            body = await first.ready(503)
            assert (body["status"], body["checks"]["serving"]["status"]) == ("not_ready", "failed")
            assert await frames.rest() == []
            assert any("reconnect" in comment for comment in frames.comments)
        assert (await first.get("/healthz")).status_code == 200
        refused = await first.post("/chat", {"message": "late"})
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert "retry-after" in refused.headers
        sent_away = await queued
        assert (sent_away.status_code, sent_away.json()["code"]) == (503, "not_ready")
        first.signal(signal.SIGTERM)
        assert (await first.get("/readiness")).status_code == 503
        assert first.process.returncode is None
        json_gate.set()
        assert (await answer)["response"] == "patience pays"
        stream_gate.set()
        assert await first.exit() == 0
        assert "Traceback" not in first.stderr

    async with serve(port=port) as second:
        run_id, last_id = begun[0][2]["run_id"], begun[-1][0]
        assert last_id is not None
        async with second.stream("GET", f"/v1/runs/{run_id}/events", **{"Last-Event-ID": last_id}) as frames:
            events = await frames.rest()
        assert events[0][1:] == ("message.delta", events[0][2] | {"offset": 5, "text": "upon a time"})
        assert [name for _, name, _ in events[1:]] == ["message.completed", "usage.recorded", "run.finished"]
        assert events[-1][2]["status"] == "succeeded"
        await until(lambda: _has(second, "q", "succeeded"))
        assert [m["content"] for m in (await second.json("/history/q"))["messages"]] == ["queued", "never lost"]


@pytest.mark.long
async def test_what_does_not_end_within_the_drain_goes_on_elsewhere_and_a_second_ctrl_c_does_not_wait(
    serve: Serve, own_provider: StandIn
) -> None:
    own_provider.script("stuck", hangs("Hmm"), says("at last"))
    own_provider.script("stuck again", hangs("Hmm"))
    async with serve(environ={"STEADYHAND__WORKER__DRAIN": "1"}) as first:
        answer = asyncio.create_task(first.post("/chat", {"message": "stuck", "session_id": "d"}))
        (call,) = await own_provider.wait("stuck")
        first.signal(signal.SIGTERM)
        response = await answer
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert await first.exit() == 0
        async with asyncio.timeout(5):
            await call.left.wait()
    async with serve() as second:
        await until(lambda: _has(second, "d", "succeeded"))
        (run,) = (await second.json("/v1/runs?session_id=d"))["data"]
        assert (run["stop_reason"], run["output"]) == ("completed", "at last")
        answer = asyncio.create_task(second.post("/chat", {"message": "stuck again", "session_id": "d"}))
        (call,) = await own_provider.wait("stuck again")
        assert call.texts("user")[0].startswith("stuck")
        _, never_sent = await asyncio.open_connection("127.0.0.1", second.port)
        never_sent.write(
            b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await never_sent.drain()
        second.signal(signal.SIGINT)
        await second.ready(503)
        assert second.process.returncode is None
        second.signal(signal.SIGINT)
        assert await second.exit(within=10) == 0, "a connection that does not end keeps nobody"
        never_sent.close()
        assert (await answer).status_code == 503


async def test_connections_that_break_in_the_middle_of_a_run(
    serve: Serve, own_provider: StandIn, database: str, postgres: str
) -> None:
    gate = asyncio.Event()
    own_provider.script("hold on", says(calls=[("c", "calculator", '{"expression": "6*7"}')], head=gate), says("42"))
    async with serve() as service:
        answer = asyncio.create_task(service.chat("hold on", session_id="h"))
        await own_provider.wait("hold on")
        admin = await connect(postgres)
        try:
            ended = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1",
                database.rsplit("@/", 1)[1].partition("?")[0],
            )
        finally:
            await admin.close()
        assert ended >= 2
        gate.set()
        assert (await answer)["response"] == "42"
        await service.ready()
        said = [line["event"] for line in service.logs]
        await until(lambda: "hints_connection_back" in [line["event"] for line in service.logs])
        assert "the execution of a run broke" not in said


async def test_a_postgresql_that_dies_alone_comes_back_and_the_run_goes_on(
    tmp_path: Path, own_provider: StandIn
) -> None:
    workspace(tmp_path, files(own_provider.url))
    own_provider.script("talk", says("A whole answer"))
    async with services.serve(tmp_path, environ={"STAND_IN_KEY": KEY}) as service:
        (postmaster,) = [pid for pid, command in processes(tmp_path).items() if "bin/postgres -D" in command]
        os.kill(postmaster, signal.SIGKILL)
        await service.ready(503)
        await service.ready(200, within=30)
        assert (await service.chat("talk"))["response"] == "A whole answer"
        assert "PostgreSQL ended by itself" in service.stderr


@asynccontextmanager
async def _movable(folder: Path) -> AsyncIterator[Any]:
    """A private server behind a socket folder of a fixed name: (dsn, stop, start)."""
    fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
    link = folder / "s"
    stack = AsyncExitStack()

    async def start() -> None:
        dsn = await stack.enter_async_context(embedded_postgres(folder / "pg", exclusive=True, settings=fast))
        sockets = dsn.partition("host=")[2].partition("&")[0].replace("%2F", "/")
        link.unlink(missing_ok=True)
        link.symlink_to(sockets)

    await start()
    try:
        yield f"postgresql://postgres@/postgres?host={link}&port=5432", stack.aclose, start
    finally:
        await stack.aclose()


@pytest.mark.long
async def test_a_database_that_is_away_for_a_while(tmp_path: Path, own_provider: StandIn) -> None:
    gate = asyncio.Event()
    own_provider.script("hold on", says(calls=[("c", "calculator", '{"expression": "6*7"}')], head=gate), says("42"))
    own_provider.script("back", says("yes"))
    own_provider.script("too late", hangs("Hmm"))
    home = tmp_path / "home"
    workspace(home, files(own_provider.url))
    async with _movable(tmp_path) as (dsn, stop, start):
        await migrate(dsn, read_migrations())
        environ = {"DATABASE_URL": dsn, "STAND_IN_KEY": KEY, "STEADYHAND__WORKER__DRAIN": "2"}
        async with services.serve(home, environ=environ) as service:
            answer = asyncio.create_task(service.chat("hold on", session_id="h"))
            await own_provider.wait("hold on")
            await stop()
            gate.set()
            began = time.monotonic()
            for response in await asyncio.gather(
                service.post("/chat", {"message": "late"}),
                service.post("/chat/stream", {"message": "late"}),
                service.get("/v1/runs"),
                service.get("/history/h"),
                service.post("/reset", {"session_id": "h"}),
            ):
                assert (response.status_code, response.json()["code"]) == (503, "not_ready"), response.text
                assert response.headers["content-type"] == "application/problem+json"
            readiness = await service.get("/readiness")
            assert (readiness.status_code, readiness.json()["checks"]["database"]["status"]) == (503, "failed")
            assert (await service.get("/healthz")).status_code == 200
            assert time.monotonic() - began < 5
            assert not answer.done()
            await start()
            assert (await answer)["response"] == "42"
            await service.ready()
            assert (await service.chat("back", session_id="h"))["response"] == "yes"
            assert own_provider.asked("back")[0].results == {"c": "42"}

            late = asyncio.create_task(service.post("/chat", {"message": "too late"}))
            await own_provider.wait("too late")
            await stop()
            service.signal(signal.SIGTERM)
            assert await service.exit() == 0
            assert ((await late).status_code, (await late).json()["code"]) == (503, "not_ready")
