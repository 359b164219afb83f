"""`steadyhand serve` as a process of its own, the way a user starts it, and what may be asked of it from outside.

Everything lies in one folder: the workspace, the data folder, the logs. Whatever a test does, nothing survives its block.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from app.cli.embedded.ownership import read_record
from tests.e2e.ports import free_port
from tests.waiting import until

Environ = Mapping[str, str]
ROOT = Path(__file__).resolve().parents[2]
MODULE = (sys.executable, "-m", "app")
STARTED_WITHIN = 60.0


class Ended(AssertionError):
    """The service ended before it said where it listens."""


class Service:
    """One `serve`. `url` is where it answers, `banner` what it printed."""

    def __init__(self, *, process: asyncio.subprocess.Process, log: Path, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.banner = ""
        self.url = ""
        self.client = httpx2.AsyncClient(timeout=30.0, trust_env=False, verify=False)
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """Every line of standard error, each of which must be a JSON object."""
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in self._log.read_bytes().splitlines()]

    async def started(self) -> None:
        """The banner is there. Raises `Ended` with what the process said instead."""
        assert self.process.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(STARTED_WITHIN):
            while not lines or "ccess  " not in lines[-1].replace("ACCESS", "access"):
                line = await self.process.stdout.readline()
                if not line:
                    raise Ended(f"exit {await self.process.wait()}: {self.stderr}")
                lines.append(line.decode())
        self.banner = "".join(lines)
        self.url = next(word for word in self.banner.split() if word.startswith("http://"))
        self.client.base_url = httpx2.URL(self.url)

    async def listening(self, port: int) -> None:
        """It is ready on that port, which it was told. Raises `Ended` with what the process said instead."""
        self.url = f"http://127.0.0.1:{port}"
        self.client.base_url = httpx2.URL(self.url)

        async def ready() -> bool:
            if self.process.returncode is not None:
                raise Ended(f"exit {self.process.returncode}: {self.stderr}")
            try:
                return (await self.get("/readiness")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(ready, within=STARTED_WITHIN)

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return await self.client.post(path, json=body, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers=headers)

    async def chat(self, message: str, **more: Any) -> dict[str, Any]:
        """One turn that is answered."""
        response = await self.post("/chat", {"message": message, **more})
        assert response.status_code == 200, response.text
        return msgspec.json.decode(response.content, type=dict[str, Any])

    async def json(self, path: str) -> Any:
        response = await self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def events(self, run_id: str) -> list[dict[str, Any]]:
        """The stored events of a run: {id, event, at, data}."""
        response = await self.get(f"/v1/runs/{run_id}/events", Accept="application/json")
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["data"]
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of that metric's samples with those labels; 0 where there are none."""
        lines = (await self.get("/metrics")).text.splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(value) for sample, _, value in samples if all(label in sample for label in wanted))

    @asynccontextmanager
    async def stream(self, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[Frames]:
        """The open SSE stream of a request."""
        request = self.client.build_request(method, path, json=body, headers=headers)
        response = await self.client.send(request, stream=True)
        try:
            assert response.status_code == 200, (await response.aread()).decode()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield Frames(response)
        finally:
            await response.aclose()

    async def ready(self, wanted: int = 200, *, within: float = 20.0) -> dict[str, Any]:
        """The body of /readiness, once it answers with that status."""
        found: dict[str, Any] = {}

        async def answers() -> bool:
            nonlocal found
            response = await self.get("/readiness")
            found = response.json()
            return response.status_code == wanted

        await until(answers, within=within)
        return found

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit(self, *, within: float = 20.0) -> int:
        """The exit code, once the process has ended."""
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL, and the process is gone; what it had started may still be on its way out."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def aclose(self) -> None:
        """Nothing of the service is left."""
        await self.client.aclose()
        await self.kill()
        await until_gone(self.folder)
        record = read_record(
            self.folder / "data"
        )  # what a killed owner leaves is the next one's to clear, and there is none
        if record is not None and record.sockets is not None:
            await asyncio.to_thread(shutil.rmtree, record.sockets, ignore_errors=True)


class Frames:
    """The events of an SSE stream as they come."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.retry: str | None = None
        self.comments: list[str] = []
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str | None, str, Any] | None:
        """(id, name, data) of the next event; None at the end of the stream."""
        found: dict[str, str] = {}
        async for line in self._lines:
            if line == "":
                if "data" in found:
                    return found.get("id"), found["event"], msgspec.json.decode(found["data"])
                assert not found.keys() - {"retry"}, "a frame without data"
                found = {}
            elif line.startswith(":"):
                self.comments.append(line)
            else:
                field, _, value = line.partition(":")
                found[field] = value.removeprefix(" ")
                if field == "retry":
                    self.retry = found[field]
        return None

    async def until(self, name: str) -> list[tuple[str | None, str, Any]]:
        """All events up to and with the next one of that name."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
            if event[1] == name:
                return events
        raise AssertionError(f"the stream ended without {name}: {events}")

    async def rest(self) -> list[tuple[str | None, str, Any]]:
        """All events to the end of the stream."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


async def launch(
    folder: Path,
    *arguments: str,
    command: tuple[str, ...] = MODULE,
    cwd: Path | None = None,
    environ: Environ | None = None,
) -> Service:
    """A process that was started and may not have said anything yet. `folder/workspace` is its workspace, where there is one."""
    log = folder / f"stderr-{time.monotonic_ns()}.log"
    workspace = folder / "workspace"
    given = ["--workspace", str(workspace)] if workspace.exists() else []
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            *given,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=cwd or folder,
            env=environment(folder, environ or {}),
            start_new_session=True,
        )
    return Service(process=process, log=log, folder=folder)


@asynccontextmanager
async def serve(
    folder: Path,
    *arguments: str,
    port: int = 0,
    command: tuple[str, ...] = MODULE,
    cwd: Path | None = None,
    environ: Environ | None = None,
) -> AsyncIterator[Service]:
    """A service that listens; gone at the end, with its PostgreSQL."""
    service = await launch(folder, "serve", "--port", str(port), *arguments, command=command, cwd=cwd, environ=environ)
    async with _ended(service):
        await service.started()
        yield service


@asynccontextmanager
async def worker(folder: Path, *arguments: str, environ: Environ | None = None) -> AsyncIterator[Service]:
    """A process that executes runs and is ready; `url` is where its health and metrics are. Gone at the end."""
    port = free_port()
    service = await launch(folder, "worker", "--port", str(port), *arguments, environ=environ)
    async with _ended(service):
        await service.listening(port)
        yield service


@asynccontextmanager
async def _ended(service: Service) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        sys.stderr.write(service.stderr[-8000:])
        raise
    finally:
        await service.aclose()


async def run(folder: Path, *arguments: str, environ: Environ | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command that ends by itself."""
    service = await launch(folder, *arguments, environ=environ)
    try:
        async with asyncio.timeout(STARTED_WITHIN):
            out, _ = await service.process.communicate()
    finally:
        await service.client.aclose()
        await service.kill()
    return service.process.returncode or 0, out.decode(), service.stderr


def environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Only what a fresh machine has, and the data folder beside everything else of the test."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    own = {
        "STEADYHAND_DATA_DIR": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error::ResourceWarning",
    }
    return kept | own | dict(more)


def workspace(folder: Path, files: Mapping[str, str]) -> None:
    """Write the workspace of the services in that folder."""
    for name, text in files.items():
        path = folder / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def processes(folder: Path) -> dict[int, str]:
    """Every live process that works in that folder: the services started there, and the PostgreSQL of its data folder."""
    found = {}
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if not entry.name.isdigit():
            continue
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder.resolve()):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


async def until_gone(folder: Path, *, within: float = 20.0) -> None:
    """No process works in that folder any more; one that does not end by itself is ended and is an error."""
    try:
        await until(lambda: not processes(folder), within=within)
    except AssertionError:
        left = processes(folder)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"left behind: {left}") from None
