"""`steadyhand init DIR`: a new workspace to begin with."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from app.cli.commands import DONE
from app.workspace.load import load_workspace
from app.workspace.scaffold import scaffold, write_new

PARTS = ("steadyhand*.toml", "agents/*.yaml", "prompts/*.yaml", "tools/**/*.py", "evals/*.yaml")
"""The files of a workspace that may be copied: `.env` is not among them."""


async def run(options: argparse.Namespace) -> int:
    """Writes the files and says which. Raises ConfigError before the first one where that cannot be."""
    folder, template = options.folder, options.workspace
    for path in scaffold(folder) if template is None else _copy(template, folder):
        print(f"wrote {path}")
    print(f"\nNext: steadyhand serve --workspace {folder}")
    return DONE


def _copy(template: Path, folder: Path) -> list[Path]:
    """Write the files of a workspace that loads into another folder; the files written, in order. Overwrites nothing."""
    load_workspace(template, os.environ)
    contents = {
        folder / path.relative_to(template): path.read_bytes()
        for part in PARTS
        for path in sorted(template.glob(part))
        if path.is_file()
    }
    return write_new(contents)
