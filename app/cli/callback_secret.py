"""`steadyhand callback-secret`: the secret with which a receiver of callbacks checks that they are ours."""

from __future__ import annotations

import argparse
import os

import msgspec

from app.callbacks.signing import signing_key, signing_secret
from app.cli.commands import DONE
from app.cli.database import open_database
from app.settings import Settings
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """Prints the configured secret, else the one that all replicas share, which is made now where there is none yet."""
    settings = load_workspace(options.workspace, os.environ).settings
    secret = str(settings.callbacks.secret) if settings.callbacks.secret is not None else await _shared(settings)
    signing_key(secret)
    print(msgspec.json.encode({"secret": secret}).decode() if options.json else secret)
    return DONE


async def _shared(settings: Settings) -> str:
    async with open_database(settings) as db:
        return await signing_secret(PostgresCallbackStore(database=db), None)
