"""`steadyhand …`: the commands, their options, and what becomes of their errors. Each command is a file of its own."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from app.domain.errors import ConfigError, SteadyhandError
from app.domain.principals import DEFAULT_TENANT, SCOPES, is_scope
from app.workspace.load import SHIPPED

DONE, FAILED, USAGE = 0, 1, 2

KEY_VARIABLE = "STEADYHAND_KEY"
"""The environment variable with the key for a service that runs elsewhere."""

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
    except SteadyhandError as error:
        for problem in error.problems if isinstance(error, ConfigError) else [error]:
            print(f"steadyhand: {problem}", file=sys.stderr)
        _tell(options, str(error))
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        _tell(options, f"{type(error).__name__}: {error}")
        raise


def _tell(options: argparse.Namespace, error: str) -> None:
    """With --json the failure too is one JSON document."""
    if getattr(options, "json", False):
        print(json.dumps({"error": error}))


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
    _worker(commands)
    _chat(commands)
    _batch(commands)
    _cache(commands)
    _keys(commands)
    _controls(commands)
    migrate = _command(commands, "migrate", "bring the database up to this release", json=True)
    migrate.add_argument("--check", action="store_true", help="change nothing; exit 1 where migrations are pending")
    _command(commands, "doctor", "check settings, database and model providers", json=True)
    usage = _command(commands, "usage", "what was used, and what it cost", json=True)
    usage.add_argument(
        "--group-by", metavar="WHAT", default="day", help="day, month, agent, model, user or tag:NAME (default: day)"
    )
    usage.add_argument(
        "--from", dest="since", metavar="TIME", type=_time, help="calls begun at or after, such as 2026-11-01"
    )
    usage.add_argument("--to", dest="until", metavar="TIME", type=_time, help="calls begun before")
    usage.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose (default: {DEFAULT_TENANT})")
    audit = _command(commands, "audit", "who decided what", json=True)
    audit.add_argument("--action", help="only this kind, such as approval.approved")
    audit.add_argument("--target", metavar="ID", help="only what is about this one")
    audit.add_argument("--limit", metavar="N", type=_count, default=50, help="how many at most (default: 50)")
    audit.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose (default: {DEFAULT_TENANT})")
    _command(commands, "callback-secret", "print the secret that signs callbacks", json=True)
    _command(commands, "validate", "read the workspace as `serve` would, and say what is wrong", json=True)
    init = _command(
        commands,
        "init",
        "write a new workspace",
        workspace="one to copy, which must load: its settings, agents, prompts, tools, evals, and nothing secret "
        "(default: the one shipped with the product, with an example tool)",
    )
    init.add_argument("folder", metavar="DIR", type=Path, help="where; existing files are never overwritten")
    _command(
        commands,
        "openapi",
        "print the OpenAPI document",
        workspace="must load where it is given; the document is the same for every workspace",
    )
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    *,
    workspace: str | None = None,
    json: bool = False,
) -> argparse.ArgumentParser:
    """`workspace` says what --workspace means where it is not what the command works on; it has no default there."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=Path,
        default=SHIPPED if workspace is None else None,
        help=workspace
        or "folder with steadyhand.toml, agents/, prompts/, tools/ (default: the one shipped with the product)",
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = _command(commands, "serve", "run the HTTP service")
    serve.add_argument("--host", help="address to listen on (default: server.host, 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port to listen on, 0 for a free one (default: server.port, 8000)")
    serve.add_argument("--insecure", action="store_true", help="listen beyond this machine without authentication")
    serve.add_argument(
        "--role",
        choices=["all", "api"],
        default="all",
        help="all: serve and execute runs; api: serve only, `worker` processes execute them (default: all)",
    )
    serve.add_argument(
        "--workers",
        metavar="N",
        type=_count,
        default=0,
        help="start N worker processes beside it, which then execute the runs",
    )


def _worker(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    worker = _command(commands, "worker", "execute runs, without the API")
    worker.add_argument(
        "--concurrency", metavar="N", type=_count, help="runs at once (default: worker.concurrency, 64)"
    )
    worker.add_argument("--host", default="127.0.0.1", help="address of health and metrics (default: 127.0.0.1)")
    worker.add_argument(
        "--port", type=_port, default=9000, help="port of health and metrics, 0 for a free one (default: 9000)"
    )


def _cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cache = commands.add_parser("cache", help="drop cached answers, or ask for them ahead of time")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    invalidate = _command(
        actions, "invalidate", "drop cached answers: those to which every given option applies", json=True
    )
    invalidate.add_argument("--agent", metavar="NAME", help="only this agent's")
    invalidate.add_argument("--prompt", metavar="NAME[@VERSION]", help="only those with this prompt")
    invalidate.add_argument("--tag", metavar="NAME[:VALUE]", help="only those of runs with this tag")
    invalidate.add_argument("--all", action="store_true", help="all answers of the tenant")
    warm = _command(actions, "warm", "ask questions, so that their answers are cached", json=True)
    warm.add_argument(
        "file", metavar="FILE", help='JSON lines, {"agent": …, "input": …} or {"message": …}; - for standard input'
    )
    warm.add_argument("--concurrency", metavar="N", type=_count, default=8, help="questions at once (default: 8)")
    for action in (invalidate, warm):
        action.add_argument("--url", help="the service (default: where the workspace's settings have it listen)")
        _key(action)


def _keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = _command(actions, "create", "make an API key, and print it once", json=True)
    create.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose data it opens (default: {DEFAULT_TENANT})")
    create.add_argument("--user", help="the only user whose data it opens (default: all of the tenant)")
    create.add_argument(
        "--scopes",
        metavar="SCOPE",
        nargs="+",
        type=_words,
        default=[["runs"]],
        help=f"what it may do, of {', '.join(sorted(SCOPES))}, and tool:… where an agent's file asks for it (default: runs)",
    )
    create.add_argument(
        "--expires", metavar="WHEN", type=_expiry, help="a time such as 2027-01-31, or how long from now: 90d, 12h, 30m"
    )
    listed = _command(actions, "list", "list the API keys, without the keys themselves", json=True)
    listed.add_argument("--tenant", help="only this tenant's (default: all)")
    revoke = _command(actions, "revoke", "refuse a key from now on", json=True)
    revoke.add_argument("id", metavar="ID", help="as `keys list` shows it")


def _key(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--key", help=f"the key or token for that service (default: {KEY_VARIABLE}, which others cannot see)"
    )


def _words(text: str) -> list[str]:
    words = [word for word in text.replace(",", " ").split() if word]
    if wrong := [word for word in words if not is_scope(word)]:
        raise argparse.ArgumentTypeError(
            f"{wrong[0]!r} is no scope; the scopes are: {', '.join(sorted(SCOPES))}, tool:…"
        )
    if not words:
        raise argparse.ArgumentTypeError("name one scope at least")
    return words


def _expiry(text: str) -> datetime | timedelta:
    """A time, or a time from now."""
    if text[:-1].isdecimal() and text[-1:] in _UNITS:
        try:
            return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
        except OverflowError:
            raise argparse.ArgumentTypeError(f"{text!r} is too long") from None
    try:
        return _time(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time, such as 2027-01-31 or 2027-01-31T12:00Z, nor a number of days, hours or minutes "
            "from now: 90d, 12h, 30m"
        ) from None


_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def _controls(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    controls = commands.add_parser("controls", help="switch agents, tools and tenants off and on")
    actions = controls.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _command(actions, "list", "what is switched off for everybody, or for a tenant", json=True)
    disable = _command(actions, "disable", "switch something off, in every process within a second", json=True)
    enable = _command(actions, "enable", "switch it on again", json=True)
    for action in (disable, enable):
        action.add_argument("kind", choices=["agent", "tool", "tenant"], help="what it is")
        action.add_argument("name", metavar="NAME", help="its name")
    disable.add_argument("--reason", metavar="TEXT", help="why, as whoever is refused is told")
    disable.add_argument(
        "--unseen",
        action="store_true",
        help="also for a tenant of which there is nothing yet, such as one of a token issuer",
    )
    for action in (listing, disable, enable):
        action.add_argument("--tenant", metavar="TENANT", help="for this tenant only (default: for everybody)")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-21 or 2026-11-21T12:00:00Z") from None


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port: 0 to 65535")
    return port


def _batch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    batch = _command(commands, "batch", "send a file of items as a batch, wait for it, print the results", json=True)
    batch.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="one JSON object a line: input or message; custom_id, agent, context, tags",
    )
    batch.add_argument("--agent", metavar="AGENT", help="who answers lines that name nobody (default: the default one)")
    batch.add_argument("--url", help="a running service (default: one of its own, for as long as it waits)")
    _key(batch)
    batch.add_argument("--output", metavar="FILE", type=Path, help="where the results go (default: standard output)")
    batch.add_argument(
        "--window", metavar="SECONDS", type=float, help="after which what has no answer gets none (default: two days)"
    )
    batch.add_argument("--new", action="store_true", help="a new batch, also where this file was sent before")


def _chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = _command(commands, "chat", "talk to an agent in the terminal")
    chat.add_argument("agent", nargs="?", metavar="AGENT", help="which agent (default: the default one)")
    chat.add_argument("--url", help="a running service (default: one of its own, for the time of the chat)")
    _key(chat)
    chat.add_argument("--session", metavar="ID", help="the conversation to go on with")
