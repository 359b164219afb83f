"""`steadyhand init DIR`: a new workspace to begin with."""

from __future__ import annotations

import argparse

from app.cli.commands import DONE
from app.workspace.scaffold import scaffold


async def run(options: argparse.Namespace) -> int:
    """Writes the files and says which."""
    for path in scaffold(options.folder):
        print(f"wrote {path}")
    print(f"\nNext: steadyhand serve --workspace {options.folder}")
    return DONE
