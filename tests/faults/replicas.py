"""The product's processes around one database: each can be ended and started again on its port."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from tests.e2e import service as services
from tests.e2e.ports import free_port
from tests.e2e.service import Service

Kind = Literal["all", "api", "worker"]


class Replica:
    """One process. `service` is the one that runs, or ran last; `starts` seconds that its starts took."""

    def __init__(self, *, kind: Kind, folder: Path, workspace: Path, environ: Mapping[str, str]) -> None:
        self.kind = kind
        self.folder = folder
        self.port = free_port()
        self.starts: list[float] = []
        self._workspace = workspace
        self._environ = environ
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        assert self._service is not None, f"{self.folder.name} was never started"
        return self._service

    @property
    def pid(self) -> int:
        return self.service.pid

    @property
    def alive(self) -> bool:
        return self._service is not None and self._service.process.returncode is None

    async def start(self) -> None:
        """It runs and is ready."""
        self.folder.mkdir(exist_ok=True)
        words = ["worker"] if self.kind == "worker" else ["serve", "--role", self.kind]
        began = time.monotonic()
        self._service = await services.launch(
            self.folder,
            *words,
            *("--port", str(self.port), "--workspace", str(self._workspace)),
            environ=self._environ,
        )
        try:
            await self._service.listening(self.port)
        except BaseException:
            await self.end()
            raise
        self.starts.append(time.monotonic() - began)

    async def restart(self) -> None:
        """Whatever became of it, it runs again."""
        await self.end()
        await self.start()

    async def end(self) -> None:
        """SIGKILL, and nothing of it is left."""
        if self._service is not None:
            await self._service.aclose()


class Replicas:
    """All of them."""

    def __init__(self, *, folder: Path, environ: Mapping[str, str]) -> None:
        self.all: list[Replica] = []
        self._folder = folder
        self._environ = environ

    def of(self, *kinds: Kind) -> list[Replica]:
        return [replica for replica in self.all if replica.kind in kinds]

    @property
    def edge(self) -> Replica:
        """One that serves HTTP."""
        return self.of("all", "api")[0]

    def pids(self) -> dict[int, Replica]:
        """Those that run, by process id."""
        return {replica.pid: replica for replica in self.all if replica.alive}

    def add(self, kind: Kind, environ: Mapping[str, str] | None = None) -> Replica:
        """One more, not started yet."""
        name = f"{kind}-{len(self.all)}"
        replica = Replica(
            kind=kind,
            folder=self._folder / name,
            workspace=self._folder / "workspace",
            environ={**self._environ, **(environ or {})},
        )
        self.all.append(replica)
        return replica

    async def log(self) -> str:
        """The last words of each process."""
        return "\n".join(f"--- {r.folder.name}\n{r.service.stderr[-6000:]}" for r in self.all if r._service is not None)


@asynccontextmanager
async def replicas(
    folder: Path,
    files: Mapping[str, str],
    environ: Mapping[str, str],
    *kinds: Kind,
    each: Sequence[Mapping[str, str]] = (),
) -> AsyncIterator[Replicas]:
    """Processes of those kinds in a workspace of those files, ready; gone at the end. `each` is for one after the other."""
    services.workspace(folder, files)
    opened = Replicas(folder=folder, environ=environ)
    try:
        for kind, own in itertools.zip_longest(kinds, each, fillvalue=None):
            assert kind is not None
            opened.add(kind, own)
        await asyncio.gather(*(replica.start() for replica in opened.all))
        yield opened
    finally:
        await asyncio.gather(*(replica.end() for replica in opened.all))
