"""`steadyhand openapi`: the OpenAPI document of the HTTP API."""

from __future__ import annotations

import argparse
import json

from app.cli.commands import DONE
from app.main import describe


async def run(_: argparse.Namespace) -> int:
    """Prints one JSON document."""
    print(json.dumps(describe(), indent=2, default=str))
    return DONE
