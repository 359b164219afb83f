"""Which room may know which: the table that keeps the parts apart, and what importing a part loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANYTHING = None

ROOMS: dict[str, set[str] | None] = {
    "domain": set(),
    "safety": {"domain", "egress"},
    "agent": {"domain", "safety"},
    "prompts": {"domain"},
    "rounds": {"domain"},
    "runs": {"domain", "agent", "rounds", "safety"},
    "llm": {"domain"},
    "egress": {"domain"},
    "tools": {"domain", "egress", "safety"},
    "access": {"domain", "rounds"},
    "callbacks": {"domain", "egress", "rounds"},
    "batches": {"domain", "agent", "rounds"},
    "storage": {"domain"},
    "telemetry": {"domain"},
    "settings": {"domain"},
    "workspace": {"domain", "settings", "prompts", "tools", "safety"},
    "api": {"domain", "runs", "callbacks", "batches", "access"},
    "main": ANYTHING,
    "wiring": ANYTHING,
    "cli": ANYTHING,
    "__main__": {"cli"},
}
"""What a room may import from `app` besides itself; a new room gets a line here."""

IMPORTED_BY: dict[str, set[str]] = {"cli": {"__main__"}, "wiring": {"cli"}, "main": {"cli", "wiring"}}
"""Rooms at the top, and who alone may import them."""

VENDORS: dict[str, set[str]] = {
    "msgspec": {"*"},
    "openai": {"llm/openai*.py"},
    "anthropic": {"llm/anthropic*.py"},
    "httpx2": {
        "llm/*",
        "access/jwks.py",
        "tools/http_fetch.py",
        "egress/urls.py",
        "cli/chat*.py",
        "cli/batch*.py",
        "cli/cache.py",
        "wiring/*",
    },
    "httpcore2": {"tools/http_fetch.py", "egress/network.py", "callbacks/sending.py", "wiring/*"},
    "aiohttp": {"llm/openai*.py", "llm/anthropic*.py"},
    "jwt": {"access/jwks.py", "access/tokens.py"},
    "genai_prices": {"llm/prices.py"},
    "jsonschema": {"agent/structured.py", "tools/*", "workspace/*"},
    "stdnum": {"safety/identities.py"},
    "phonenumbers": {"safety/contacts.py"},
    "referencing": {"tools/*", "workspace/*"},
    "yaml": {"workspace/documents.py"},
    "asyncpg": {"storage/*"},
    "redis": {"storage/redis/*"},
    "opentelemetry": {"telemetry/*"},
    "prometheus_client": {"telemetry/*", "wiring/*"},
    "litestar": {"api/*", "main.py"},
    "granian": {"cli/*", "wiring/*"},
    "uvloop": {"cli/*"},
}
"""Which files may import a vendor; a new one gets a line here."""


def files() -> list[str]:
    shipped = ("workspace/default/", "workspace/example/")
    found = (path.relative_to(ROOT / "app").as_posix() for path in (ROOT / "app").rglob("*.py"))
    return sorted(name for name in found if not name.startswith(shipped))


def imported(name: str) -> Iterator[str]:
    """Every absolute module name that a file imports, wherever in it; a relative import starts with a dot."""
    for node in ast.walk(ast.parse((ROOT / "app" / name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"app.{alias.name}" for alias in node.names) if origin == "app" else (origin,)


def complaint(name: str, module: str) -> str | None:
    """What is wrong with that import in that file."""
    room = name.split("/")[0].removesuffix(".py")
    top, _, rest = module.partition(".")
    if not top:
        return "a relative import"
    if top in sys.stdlib_module_names:
        return None
    if top != "app":
        allowed = VENDORS.get(top, set())
        return None if any(fnmatch(name, pattern) for pattern in allowed) else f"{top} belongs to {allowed or 'nobody'}"
    other = rest.split(".")[0]
    may = ROOMS[room]
    if other in ("", room):
        return None
    if other in IMPORTED_BY and room not in IMPORTED_BY[other]:
        return f"nobody but {IMPORTED_BY[other]} imports {other}"
    return None if may is None or other in may else f"{room} may import {may or 'no other room'}, not {other}"


def test_every_import_is_in_the_table() -> None:
    wrong = [
        f"app/{name}: {module}: {said}"
        for name in files()
        if name != "__init__.py"
        for module in imported(name)
        if (said := complaint(name, module))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("runs/service.py", "app.storage.migrate"),
        ("runs/service.py", "asyncpg"),
        ("domain/runs.py", "app.agent.decide"),
        ("llm/router.py", "openai"),
        ("api/runs.py", "app.wiring"),
        ("main.py", "app.cli.serve"),
        ("tools/clock.py", ".declare"),
        ("storage/migrate.py", "unheard_of"),
    ],
)
def test_the_table_refuses(name: str, module: str) -> None:
    assert complaint(name, module)


def modules(*rooms: str) -> list[str]:
    return [
        f"app.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}"
        for name in files()
        if name.split("/")[0] in rooms
    ]


@pytest.mark.parametrize(
    ("loaded", "never"),
    [
        (
            modules("domain", "agent", "runs"),
            {"litestar", "asyncpg", "redis", "openai", "anthropic", "opentelemetry", "prometheus_client", "granian"},
        ),
        (
            ["app.cli.commands"],
            {"litestar", "asyncpg", "redis", "openai", "anthropic", "opentelemetry", "granian", "app.wiring"},
        ),
    ],
    ids=["rules", "cli"],
)
def test_importing_a_part_loads_no_stranger(loaded: list[str], never: set[str]) -> None:
    program = f"import sys, {', '.join(loaded)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    present = set(done.stdout.split())
    assert set(loaded) <= present
    assert present & never == set()
