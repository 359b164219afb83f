"""`steadyhand callback-secret`: the secret with which a receiver of callbacks checks that they are ours."""

from __future__ import annotations

import argparse
import os

import msgspec

from app.callbacks.signing import signing_key, signing_secret
from app.cli.commands import DONE
from app.cli.database import reach_database
from app.domain.errors import SteadyhandError
from app.settings import Settings
from app.storage.migrate import migrate, read_migrations, status
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.pool import open_pool
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """Prints the configured secret, else the one that all replicas share, which is made now where there is none yet."""
    settings = load_workspace(options.workspace, os.environ).settings
    secret = str(settings.callbacks.secret) if settings.callbacks.secret is not None else await _shared(settings)
    signing_key(secret)
    print(msgspec.json.encode({"secret": secret}).decode() if options.json else secret)
    return DONE


async def _shared(settings: Settings) -> str:
    async with reach_database(settings) as database:
        if database.embedded:
            await migrate(database.direct, read_migrations())
        async with open_pool(database.dsn, pool_min=1, pool_max=1, statement_cache=0) as db:
            if (await status(db, read_migrations())).pending:
                raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
            return await signing_secret(PostgresCallbackStore(database=db), None)
