"""`steadyhand validate`: read the workspace as `serve` would, and say what is wrong, without starting anything."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from app.cli.commands import DONE, FAILED
from app.cli.insecure import insecure
from app.domain.errors import ConfigError
from app.wiring.budgets import check_budgets
from app.workspace.load import load_workspace


async def run(options: argparse.Namespace) -> int:
    """Exit code 1 where something is wrong."""
    try:
        workspace = load_workspace(options.workspace, os.environ)
        await check_budgets(workspace)
    except ConfigError as error:
        if options.json:
            print(msgspec.json.encode({"valid": False, "problems": error.problems}).decode())
        else:
            for problem in error.problems:
                print(problem, file=sys.stderr)
        return FAILED
    agents = {name: agent.version for name, agent in sorted(workspace.agents.items())}
    if options.json:
        print(msgspec.json.encode({"valid": True, "agents": agents, "problems": []}).decode())
    else:
        settings = workspace.settings
        for warning in (*settings.warnings, *insecure(settings, os.environ, (workspace.folder, Path.cwd()))):
            print(f"warning: {warning}")
        print(f"{workspace.folder} is valid: " + ", ".join(f"{name} ({version})" for name, version in agents.items()))
    return DONE
