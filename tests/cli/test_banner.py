"""What `serve` says of who may call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.banner import serve_banner
from app.cli.commands import DONE, run
from app.cli.database import Reached
from app.workspace.load import load_workspace

DATABASE = Reached(dsn="postgresql:///x", direct="postgresql:///x", embedded=False, name="x")


@pytest.mark.parametrize(
    ("origins", "needed", "said"),
    [
        ("[]", None, None),
        ('["https://a.example"]', None, "pages of https://a.example may call it"),
        ('["*"]', None, "counts once there is a key"),
        ('["*"]', "an API key", None),
    ],
)
def test_pages_that_may_call_without_a_key(tmp_path: Path, origins: str, needed: str | None, said: str | None) -> None:
    folder = tmp_path / "new"
    assert run(["init", str(folder)]) == DONE
    (folder / "steadyhand.toml").write_text(f"[server]\ncors_origins = {origins}\n")
    banner = serve_banner(
        load_workspace(folder, {}), DATABASE, "127.0.0.1", 80, pending=False, needed=needed, executes=True, workers=0
    )
    lines = [line for line in banner.splitlines() if line.startswith("  access")]
    assert len(lines) == (1 if said is None else 2)
    assert said is None or said in lines[1]
