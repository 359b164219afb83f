"""`steadyhand …`: the commands, their options, and what becomes of their errors. Each command is a file of its own."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from app.domain.errors import ConfigError, SteadyhandError
from app.workspace.load import SHIPPED

DONE, FAILED, USAGE = 0, 1, 2

Command = Callable[[argparse.Namespace], Awaitable[int]]


def run(arguments: Sequence[str]) -> int:
    """Run one command. Exit codes: 0 done, 1 failed, 2 usage."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:  # argparse has said why, or shown its help
        return int(end.code or 0)
    module = importlib.import_module(f"app.cli.{options.command.replace('-', '_')}")
    command: Command = module.run
    try:
        return _loop_run(command(options))
    except ConfigError as error:
        for problem in error.problems:
            print(f"steadyhand: {problem}", file=sys.stderr)
        return FAILED
    except SteadyhandError as error:
        print(f"steadyhand: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _loop_run(command: Awaitable[int]) -> int:
    async def whole() -> int:
        return await command

    if sys.platform == "win32":
        return asyncio.run(whole())
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steadyhand", description="Serves LLM agents over HTTP, and finishes what they start."
    )
    parser.add_argument("--version", action="version", version=f"steadyhand {version('steadyhand')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _serve(commands)
    _chat(commands)
    migrate = _command(commands, "migrate", "bring the database up to this release", json=True)
    migrate.add_argument("--check", action="store_true", help="change nothing; exit 1 where migrations are pending")
    _command(commands, "doctor", "check settings, database and model providers", json=True)
    _command(commands, "validate", "read the workspace as `serve` would, and say what is wrong", json=True)
    init = _command(commands, "init", "write a new workspace", workspace=False)
    init.add_argument("folder", metavar="DIR", type=Path, help="where; existing files are never overwritten")
    _command(commands, "openapi", "print the OpenAPI document", workspace=False)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    *,
    workspace: bool = True,
    json: bool = False,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=Path,
        default=SHIPPED,
        help="folder with steadyhand.toml, agents/, prompts/, tools/ (default: the one shipped with the product)"
        if workspace
        else argparse.SUPPRESS,
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _command(commands, "serve", "run the HTTP service")
    serve.add_argument("--host", help="address to listen on (default: server.host, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for a free one (default: server.port, 8000)")
    serve.add_argument("--insecure", action="store_true", help="listen beyond this machine without authentication")
    serve.add_argument("--role", choices=["all"], default="all", help="all: serve and execute runs")


def _chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = _command(commands, "chat", "talk to an agent in the terminal")
    chat.add_argument("agent", nargs="?", metavar="AGENT", help="which agent (default: the default one)")
    chat.add_argument("--url", help="a running service (default: one of its own, for the time of the chat)")
    chat.add_argument("--session", metavar="ID", help="the conversation to go on with")
