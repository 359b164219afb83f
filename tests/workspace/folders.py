"""Folders that are workspaces, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.errors import ConfigError
from app.workspace.load import Workspace, load_workspace

CHAT = "description: d\nkind: chat\ninstructions: hello\n"


TOOL = "from app.tools import tool\n\n@tool\ndef {name}() -> str:\n    'Does it.'\n    return '{name}'\n"


def write(folder: Path, **files: str) -> Path:
    """Files by name; `__` is a slash and the suffix follows from the folder. There is an agent `assistant` unless one is given."""
    suffix = {"tools": ".py", "agents": ".yaml", "prompts": ".yaml"}
    for name, text in ({"agents__assistant": CHAT} | files).items():
        parts = name.split("__")
        path = folder.joinpath(*parts[:-1], parts[-1] + suffix.get(parts[0], ".toml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def loaded(folder: Path, environ: dict[str, str] | None = None) -> Workspace:
    return load_workspace(folder, environ or {"APP_ENV": "test"})


def problems(folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, environ)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]
