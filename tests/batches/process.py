"""A process that looks after batches, to be killed: `python -m tests.batches.process DSN KIND URL CLAIM`."""

from __future__ import annotations

import asyncio
import sys

from app.domain.usage import Caps
from app.storage.postgres.pool import open_pool
from tests.batches.world import World, opened_provider, tagger


async def main(dsn: str, kind: str, url: str, claim: str) -> None:
    provider = opened_provider(kind, url)  # type: ignore[arg-type]  # the test says which
    async with open_pool(dsn) as db:
        await World(db, provider, tagger(), None, Caps()).jobs(claim=float(claim)).serve()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
