"""Agreement and saving: the arithmetic, and that the labelled set comes out as the decision record says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.complexity.measure import agreement, wilson

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.complexity", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (34, 35, 0.8547, 0.9949)],
)
def test_wilsons_interval(hits: int, of: int, low: float, high: float) -> None:
    found = wilson(hits, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_an_abstention_is_the_default_and_no_decision() -> None:
    found = agreement(["cheap", "mid", "premium", "cheap"], ["cheap", None, None, "premium"], "mid")
    assert (found.questions, found.decided) == (4, 2)
    assert (found.of_decided.share, found.of_all.share) == (0.5, 0.5)
    assert found.errors == {("premium", "mid"): 1, ("cheap", "premium"): 1}


def test_the_labelled_set() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert "61 questions" in done.stdout
    assert "the score decided    35, abstained on 26" in done.stdout
    assert "agreement, decided   97.1%   95 % interval 85.5% to 99.5%" in done.stdout
    assert "saves 68.8%" in done.stdout


def test_dollars_are_those_of_the_price_table(tmp_path: Path) -> None:
    """One easy question: what it costs at the cheap tier and at the others, by hand."""
    (tmp_path / "steadyhand.toml").write_text((ROOT / "ops/complexity/steadyhand.toml").read_text())
    (tmp_path / "one.jsonl").write_text('{"tier": "cheap", "text": "What is the capital of Peru?"}\n')
    done = run(str(tmp_path / "one.jsonl"), "--workspace", str(tmp_path), "--output-tokens", "1000")
    # 28 characters are 7 tokens: 7 × 0.1 + 1000 × 0.5 millionths, against 7 × 1 + 1000 × 5 and 7 × 10 + 1000 × 50.
    assert "0.000501 USD" in done.stdout
    assert "all on mid          0.005007 USD (openai/gpt-6.1-terra): saves 90.0%" in done.stdout
    assert "all on premium      0.050070 USD (openai/gpt-6-astra): saves 99.0%" in done.stdout


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    assert run("--route", "nowhere").returncode == 2
    text = (ROOT / "ops/complexity/steadyhand.toml").read_text()
    (tmp_path / "steadyhand.toml").write_text(text.replace("gpt-6-luna", "of-nobody", 1))
    done = run("--workspace", str(tmp_path))
    assert done.returncode == 1, done.stdout
    assert "there is no price for openai/of-nobody" in done.stdout
