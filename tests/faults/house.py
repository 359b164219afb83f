"""Everything around the product that counts and cuts, and the product's processes in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.storage.postgres.pool import connect
from tests.e2e.provider import StandIn, stand_in
from tests.faults.cuts import Knife
from tests.faults.postgres_proxy import PostgresProxy, postgres_proxy
from tests.faults.replicas import Kind, Replica, Replicas, replicas
from tests.faults.script import Model, agents, settings
from tests.faults.sockets import holder
from tests.faults.world import TOOLS, World, open_world

LEASE = 2.0
"""Seconds."""
TOPOLOGIES: dict[str, tuple[Kind, ...]] = {"single": ("all",), "split": ("api", "worker", "worker")}


class House:
    """A product with its surroundings. `database` is the real DSN, which the product reaches through `proxy`."""

    def __init__(
        self,
        *,
        knife: Knife,
        world: World,
        model: Model,
        provider: StandIn,
        proxy: PostgresProxy,
        replicas: Replicas,
        database: str,
    ) -> None:
        self.knife = knife
        self.world = world
        self.model = model
        self.provider = provider
        self.proxy = proxy
        self.replicas = replicas
        self.database = database

    @property
    def edge(self) -> Replica:
        return self.replicas.edge

    def executing(self) -> list[Replica]:
        """The processes that execute runs."""
        return self.replicas.of("all", "worker")

    async def query(self, sql: str, *arguments: object) -> list[Any]:
        """What the database says, asked past everybody."""
        connection = await connect(self.database)
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()


@asynccontextmanager
async def house(
    folder: Path,
    database: str,
    *kinds: Kind,
    environ: Mapping[str, str] | None = None,
    each: Sequence[Mapping[str, str]] = (),
) -> AsyncIterator[House]:
    """Processes of those kinds on that database, with a lease of `LEASE` seconds; `each` is for one process after the other."""
    knife = Knife()
    running: list[Replicas] = []

    def owner(port: int) -> int | None:
        return holder(port, running[0].pids())

    model = Model(knife=knife, owner=owner)
    async with (
        open_world(knife) as world,
        stand_in(replies=model.reply, watch=model.watch) as provider,
        postgres_proxy(database, knife) as proxy,
    ):
        given = {
            "DATABASE_URL": proxy.dsn,
            "STAND_IN_KEY": "sk-canary-4f1d0c77",
            "WORLD_URL": world.url,
            "STEADYHAND__WORKER__LEASE": f"{LEASE:g}",
        }
        files = agents() | {"steadyhand.toml": settings(provider.url), "tools/world.py": TOOLS}
        async with replicas(folder, files, given | dict(environ or {}), *kinds, each=each) as processes:
            running.append(processes)
            proxy.counted = lambda pid: pid in {replica.pid for replica in processes.of("all", "worker")}
            yield House(
                knife=knife,
                world=world,
                model=model,
                provider=provider,
                proxy=proxy,
                replicas=processes,
                database=database,
            )
