"""`steadyhand openapi`: the OpenAPI document of the HTTP API."""

from __future__ import annotations

import argparse
import json
import os

from app.cli.commands import DONE
from app.main import describe
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """Prints one JSON document. Raises ConfigError for a workspace that was given and does not load."""
    if options.workspace is not None:
        load_workspace(options.workspace, os.environ)
    print(json.dumps(describe(), indent=2, default=str))
    return DONE
