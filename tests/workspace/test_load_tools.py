"""Tool files of a workspace."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import app.tools
from tests.workspace.folders import CHAT, TOOL, loaded, problems, write


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("x = 1\nimport nothing_of_that_name\n", "tools/t.py:2: cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = 1\n\ndef f(:\n", "tools/t.py:3: cannot be imported: SyntaxError: invalid syntax"),
        ("def f():\n  raise ValueError('no')\n\nf()\n", "tools/t.py:2: cannot be imported: ValueError: no"),
        ("import json\n\njson.loads('')\n", "tools/t.py:3: cannot be imported: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("import sys\nsys.exit(3)\n", "tools/t.py:2: cannot be imported: SystemExit: 3"),
        (TOOL.format(name="clock"), "tools/t.py:3: tool clock: the name is taken by the built-in one"),
    ],
)  # fmt: skip
def test_tool_files_that_do_not_load(tmp_path: Path, tool: str, line: str) -> None:
    folder = write(tmp_path, tools__t=tool, agents__x=CHAT.replace("chat", "react") + "tools: [of_t]\n")
    assert problems(folder) == [line]


def test_a_function_that_cannot_be_a_tool(tmp_path: Path) -> None:
    text = "from app.tools import tool\n\n\n@tool(retry=1)\ndef f() -> str:\n    'Does it.'\n    return ''\n"
    (found,) = problems(write(tmp_path, tools__t=text))
    assert found.startswith("tools/t.py:4: cannot be a tool: tool f: retry is allowed")


def test_two_files_with_one_tool_name(tmp_path: Path) -> None:
    folder = write(tmp_path, tools__a=TOOL.format(name="same"), tools__b="\n" + TOOL.format(name="same"))
    assert problems(folder) == [
        f"tools/b.py:4: tool same: the name is taken by the one at {folder}/tools/a.py:3".replace(f"{folder}/", "")
    ]


def test_a_workspace_that_looks_like_us(tmp_path: Path) -> None:
    """Its own `app`, `tools` and names of the standard library shadow nothing, and its files can import each other."""
    folder = write(
        tmp_path,
        tools__json=TOOL.format(name="one").replace("'one'", "shared.WORD") + "\nfrom . import _shared as shared\n",
        tools__app=TOOL.format(name="two"),
        tools___shared="WORD = 'shared'\n",
    )
    for package in ("app/tools", "app/domain", "tools"):
        path = folder / package
        path.mkdir(parents=True, exist_ok=True)
        (path / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    (folder / "app" / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    before = list(sys.path)
    workspace = loaded(folder)
    functions = {tool.spec.name: tool.function for tool in workspace.tools}
    assert (functions["one"](), functions["two"]()) == ("shared", "two")
    assert sys.path == before
    assert sys.modules["app.tools"] is app.tools
    assert "tools" not in sys.modules
    (folder / "tools" / "app.py").write_text(TOOL.format(name="three"))
    assert "three" in {tool.spec.name for tool in loaded(folder).tools}
