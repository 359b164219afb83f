"""The workspace's tool files, loaded by path.

They live under module names of ours, and the folder is never on `sys.path`: whatever a workspace calls its files, its `app`
or `tools` cannot stand in for another package. Within the folder relative imports work (`from .shared import …`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from app.domain.errors import ConfigError, ConfigProblem
from app.tools import calculator, clock, http_fetch
from app.tools.declare import DeclaredTool, ToolDeclarationError, declared


def builtin_tools() -> list[DeclaredTool]:
    """The tools of every workspace."""
    return [tool for module in (calculator, clock, http_fetch) for tool in declared(module)]


def load_tools(folder: Path, builtin: Sequence[DeclaredTool]) -> tuple[list[DeclaredTool], list[ConfigProblem]]:
    """The built-in tools and those of `folder/*.py`, in the order of file names; and what is wrong with the files.

    Runs the files' code, once each per call. Files that begin with `_` are for the others to import.
    """
    tools = list(builtin)
    owners = dict.fromkeys((tool.spec.name for tool in builtin), "the built-in one")
    problems: list[ConfigProblem] = []
    package = _package(folder)
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith("_"):
            continue
        try:
            found = declared(_module(f"{package}.{path.stem}", path))
        except ConfigError as error:
            problems += error.problems
            continue
        except ToolDeclarationError as error:
            problems.append(ConfigProblem(f"{error.file or path}:{error.line or 1}", "cannot be a tool", str(error)))
            continue
        for tool in found:
            where = f"{path}:{tool.function.__code__.co_firstlineno}"
            if tool.spec.name in owners:
                why = f"the name is taken by {owners[tool.spec.name]}"
                problems.append(ConfigProblem(where, f"tool {tool.spec.name}", why))
            else:
                owners[tool.spec.name] = f"the one at {where}"
                tools.append(tool)
    return tools, problems


def _package(folder: Path) -> str:
    """A fresh, empty package whose modules are the folder's files."""
    name = "steadyhand_workspace_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    for old in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[old]
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    importlib.invalidate_caches()
    return name


def _module(name: str, path: Path) -> ModuleType:
    """The file, executed. Raises ConfigError with the line at which it failed."""
    loaded = sys.modules.get(name)  # another tool file imported it
    if loaded is not None:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError([ConfigProblem(str(path), "cannot be imported", "it is not a Python source file")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ToolDeclarationError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError([_import_problem(path, error)]) from error
    return module


def _import_problem(path: Path, error: BaseException) -> ConfigProblem:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line, why = error.lineno or 1, error.msg
    else:
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line, why = (frames[-1] if frames else None) or 1, str(error) or "no message"
    return ConfigProblem(f"{path}:{line}", "cannot be imported", f"{type(error).__name__}: {why}")
