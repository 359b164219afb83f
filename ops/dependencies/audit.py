"""What may be wrong with dependencies, read off the lock, the environment and the list of advisories."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

INDEX = "https://pypi.org/simple"
STARTUP = {"_virtualenv.pth": "import _virtualenv"}
"""Code that runs at every start of Python and is known: uv's own, of its virtual environments."""
SEEDS = frozenset({"pip", "setuptools", "wheel"})
"""What some tools put into every new environment."""
UNKNOWN = "does not know it"
CUSTOM = ("sitecustomize", "usercustomize")
UNREACHABLE = ("error sending request", "Request failed", "operation timed out", "Could not connect", "dns error")
"""How `uv audit` says that the list of advisories did not answer."""
OK, FOUND, SKIPPED = 0, 1, 77


def unpinned(lock: str) -> list[str]:
    """Packages of a uv lock that do not come from the index, and files of them without a SHA-256."""
    wrong = []
    for package in tomllib.loads(lock)["package"]:
        name, source = f"{package['name']} {package.get('version', '')}", package["source"]
        if source in ({"editable": "."}, {"virtual": "."}):
            continue
        if source != {"registry": INDEX}:
            wrong.append(f"{name}: comes from {source}, not from {INDEX}")
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        if not files:
            wrong.append(f"{name}: has no file")
        wrong += [f"{name}: {_name(file)} has no SHA-256" for file in files if not _pinned(file)]
    return wrong


def _pinned(file: dict[str, Any]) -> bool:
    digest = str(file.get("hash", ""))
    return digest.startswith("sha256:") and len(digest) == len("sha256:") + 64


def _name(file: dict[str, Any]) -> str:
    return str(file.get("url", "a file")).rsplit("/", 1)[-1]


def startup_code(folders: Iterable[Path]) -> list[str]:
    """Files by which a package runs code whenever Python starts, without being imported: so a stolen release once took every key."""
    wrong = []
    for folder in folders:
        for path in sorted(folder.glob("*.pth")):
            lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
            code = [line for line in lines if line.startswith(("import ", "import\t"))]
            if code and code != [STARTUP.get(path.name)]:
                wrong.append(f"{path.name}: runs code at every start of Python: {code[0][:120]}")
        wrong += [f"{name}: runs at every start of Python" for name in CUSTOM for _ in folder.glob(f"{name}*")]
    return wrong


def drifted(lock: str, installed: dict[str, str]) -> list[str]:
    """Packages that are installed in another version than the lock's, and those that it does not know at all."""
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads(lock)["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version", ""))
    return [
        f"{name}: {version} is installed, the lock {_has(locked.get(name))}"
        for name, version in sorted(installed.items())
        if version not in locked.get(name, ()) and not (name in SEEDS and name not in locked)
    ]


def _has(versions: set[str] | None) -> str:
    return UNKNOWN if versions is None else f"has {', '.join(sorted(versions))}"


def installed() -> dict[str, str]:
    """Version by normalised name of what is in this environment."""
    return {found.name.lower().replace("_", "-").replace(".", "-"): found.version for found in metadata.distributions()}


def advisories(command: Sequence[str], *, seconds: float) -> tuple[int, str]:
    """`uv audit` as OK, FOUND or SKIPPED, and what it said. Only a list that does not answer is no failure."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return SKIPPED, f"the advisories did not come within {seconds:g} s; nothing was compared with them"
    said = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        return OK, said
    if done.returncode != 1 and any(word in said for word in UNREACHABLE):
        return SKIPPED, "the list of advisories cannot be reached; nothing was compared with it"
    return FOUND, said
