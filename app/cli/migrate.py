"""`steadyhand migrate`: bring the database up to this release, or say how far it is."""

from __future__ import annotations

import argparse
import os

import msgspec

from app.cli.commands import DONE, FAILED
from app.cli.database import reach_database
from app.storage.migrate import migrate, read_migrations, status
from app.storage.postgres.pool import connect
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """Exit code 1 with --check where migrations are pending."""
    settings = load_workspace(options.workspace, os.environ).settings
    migrations = read_migrations()
    async with reach_database(settings) as database:
        applied = () if options.check else await migrate(database.direct, migrations)
        connection = await connect(database.direct)
        try:
            schema = await status(connection, migrations)
        finally:
            await connection.close(timeout=5.0)
    if options.json:
        said = {"applied": applied, "pending": schema.pending, "newer": schema.newer, "done": schema.applied}
        print(msgspec.json.encode(said).decode())
    else:
        for name in applied:
            print(f"applied {name}")
        for name in schema.pending:
            print(f"pending {name}")
        print(f"{database.name}: {len(schema.applied)} applied, {len(schema.pending)} pending")
    return FAILED if schema.pending else DONE
