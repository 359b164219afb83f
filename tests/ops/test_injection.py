"""The measurement runs, and says what the decision record says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_recall_and_false_positives_are_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.injection"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "recall 94.1% of 118, false positives 0.0% of 63" in done.stdout
