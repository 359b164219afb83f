"""What a process says of itself once it is ready."""

from __future__ import annotations

from collections.abc import Sequence

from app.cli.database import Reached
from app.cli.port import is_loopback
from app.main import VERSION
from app.workspace.load import Workspace


def serve_banner(
    workspace: Workspace,
    database: Reached,
    address: str,
    port: int,
    *,
    pending: bool,
    needed: str | None,
    executes: bool,
    workers: int,
) -> str:
    """What `serve` started, and what is missing. `executes`: it executes runs itself; else `workers` processes of its own do.

    `needed`: what requests need; None: nothing, or nobody knows while migrations are `pending`.
    """
    settings = workspace.settings
    lines = [
        f"Steadyhand {VERSION}",
        f"  listening  {url_of(address, port)}   (API and try-it page: /docs)",
        _database(database, pending),
    ]
    if workers:
        processes = "1 process executes" if workers == 1 else f"{workers} processes execute"
        lines.append(f"  workers    {processes} the runs, with metrics on ports of their own (the log says which)")
    elif not executes:
        lines.append("  workers    NONE HERE: a run waits until a `steadyhand worker` on this database executes it")
    lines.append(f"  agents     {', '.join(_agent_names(workspace))}")
    for name, route in sorted(settings.routes.items()):
        chain = " -> ".join(f"{target.provider}/{target.model}" for target in route.chain)
        lines.append(f"  model      {name}: {chain}")
    for name, tiered in sorted(settings.tiers.items()):
        choice = ", ".join(f"{tier} {route}" for tier, route in tiered.routes.items())
        lines.append(f"  model      {name}: {choice}; where nothing tells, {tiered.default}")
    lines += _missing([*settings.warnings, *settings.advice])
    if pending:
        lines.append("  access     no request is answered before the migrations are done")
    elif needed is not None:
        lines.append(f"  access     every request needs {needed}")
    elif is_loopback(address):
        lines.append("  access     no key is needed: only this machine can connect, and all of it is tenant `default`")
        lines += _pages(settings.server.cors_origins)
    else:
        lines.append("  ACCESS     INSECURE: anybody who reaches this address can use it")
    return "\n".join(lines)


def _pages(origins: Sequence[str]) -> list[str]:
    """Whose pages may call a service that needs no key."""
    if "*" in origins:
        return [
            "  access     no page of another origin may call: `*` in server.cors_origins counts once there is a key"
        ]
    return [f"  access     pages of {', '.join(origins)} may call it, too, without a key"] if origins else []


def worker_banner(
    workspace: Workspace, database: Reached, address: str, port: int, *, pending: bool, concurrency: int
) -> str:
    """What `worker` started."""
    lines = [
        f"Steadyhand {VERSION} worker",
        f"  listening  {url_of(address, port)}   (/healthz, /readiness, /metrics)",
        _database(database, pending),
        f"  executes   {concurrency} runs at once of {', '.join(sorted(workspace.agents))}",
        *_missing(workspace.settings.advice),
        "  access     no key is needed: there is nothing to be asked but health and metrics",
    ]
    return "\n".join(lines)


def url_meant(text: str) -> str:
    """A URL that somebody typed, who may have left out what it begins with."""
    return (text if "://" in text else f"http://{text}").rstrip("/")


def url_of(address: str, port: int) -> str:
    """Where a service at that address is."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def _database(database: Reached, pending: bool) -> str:
    return f"  database   {database.name}" + ("   MIGRATIONS PENDING: run `steadyhand migrate`" if pending else "")


def _missing(advice: Sequence[str]) -> list[str]:
    return [f"  missing    {text}" for text in advice]


def _agent_names(workspace: Workspace) -> list[str]:
    default = workspace.settings.default_agent
    return [f"{name} (default)" if name == default else name for name in sorted(workspace.agents)]
