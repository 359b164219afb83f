"""The audit of the dependencies: what it finds, and that it says so when it could not look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.dependencies import audit

ROOT = Path(__file__).parents[2]
HASH = "sha256:" + "0" * 64
GOOD = f"""
[[package]]
name = "steadyhand"
version = "0"
source = {{ editable = "." }}

[[package]]
name = "good"
version = "1"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://h/good-1.tar.gz", hash = "{HASH}" }}
wheels = [{{ url = "https://h/good-1.whl", hash = "{HASH}" }}]
"""


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_this_environment_and_its_lock_are_as_they_should_be() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.dependencies"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    # Whoever runs the tests may have tools of their own beside ours: that is for the gate to tell.
    wrong = [line for line in done.stdout.splitlines() if not line.endswith(audit.UNKNOWN)]
    assert done.stderr == ""
    assert not wrong or done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (f', hash = "{HASH}" }}]', " }]", "good-1.whl has no SHA-256"),
        (f'tar.gz", hash = "{HASH}"', 'tar.gz", hash = "md5:0"', "good-1.tar.gz has no SHA-256"),
        ('registry = "https://pypi.org/simple"', 'registry = "https://elsewhere/simple"', "comes from"),
        ('{ registry = "https://pypi.org/simple" }', '{ git = "https://h/x" }', "comes from"),
        (GOOD[GOOD.index("sdist") :], "", "has no file"),
    ],
)
def test_what_is_not_pinned_is_found(old: str, new: str, why: str) -> None:
    assert audit.unpinned(GOOD) == []
    [wrong] = audit.unpinned(GOOD.replace(old, new))
    assert why in wrong


def test_code_that_runs_at_every_start_is_found(tmp_path: Path) -> None:
    (tmp_path / "paths.pth").write_text("/somewhere\n# import nothing\n")
    (tmp_path / "_virtualenv.pth").write_text("import _virtualenv\n")
    assert audit.startup_code([tmp_path]) == []
    (tmp_path / "litellm_init.pth").write_text("/x\nimport os, base64; exec(base64.b64decode('…'))\n")
    (tmp_path / "sitecustomize.py").touch()
    (tmp_path / "_virtualenv.pth").write_text("import _virtualenv; import evil\n")
    assert [wrong.partition(":")[0] for wrong in audit.startup_code([tmp_path])] == [
        "_virtualenv.pth",
        "litellm_init.pth",
        "sitecustomize",
    ]


def test_another_version_than_the_locks_is_found() -> None:
    assert audit.drifted(GOOD, {"good": "1", "pip": "26"}) == []
    assert audit.drifted(GOOD, {"stranger": "7"}) == ["stranger: 7 is installed, the lock does not know it"]
    assert audit.drifted(GOOD, {"good": "2"}) == ["good: 2 is installed, the lock has 1"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("print('Found no known vulnerabilities')", audit.OK),
        ("import sys; print('Found 1 known vulnerability: GHSA-1'); sys.exit(1)", audit.FOUND),
        ("import sys; sys.stderr.write('error: error sending request for url'); sys.exit(2)", audit.SKIPPED),
        ("import sys; sys.stderr.write('error: unexpected argument'); sys.exit(2)", audit.FOUND),
        ("import sys; print('GHSA-1: its dns error is exploited'); sys.exit(1)", audit.FOUND),
        ("import time; time.sleep(60)", audit.SKIPPED),
    ],
)
def test_only_a_list_that_does_not_answer_is_skipped(text: str, code: int) -> None:
    found, said = audit.advisories(script(text), seconds=1.0 if "sleep" in text else 30.0)
    assert found == code
    assert said
