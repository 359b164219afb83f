"""[budgets]: what a month may cost, exactly as written; and no limit in dollars for what has no price."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.errors import ConfigError
from app.settings import Budgets, load
from app.wiring.budgets import caps_of, check_budgets
from app.workspace.load import load_workspace
from tests.settings.reading import TOML, problems

LEVELS = (Decimal("0.5"), Decimal("0.8"), Decimal("1.0"))
LOCAL = '[providers.local]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = ""\n'
CHAT = "description: d\nkind: chat\ninstructions: hello\n"


def test_what_holds_where_nobody_wrote_anything() -> None:
    assert load({}, {}).budgets == Budgets(user=None, tenant=Decimal(10_000), levels=LEVELS, written=())


def test_budgets_are_what_was_written() -> None:
    written = "[budgets]\nuser_monthly_usd = 12.1\ntenant_monthly_usd = 0.07\nnotify = [1.0, 0.25]\n"
    budgets = load({}, {TOML: written}).budgets
    assert budgets == Budgets(
        user=Decimal("12.1"), tenant=Decimal("0.07"), levels=(Decimal("0.25"), Decimal("1.0")),
        written=("user_monthly_usd", "tenant_monthly_usd"),
    )  # fmt: skip
    caps = caps_of(load({}, {TOML: written}))
    assert (caps.tenant, caps.user, caps.levels) == (budgets.tenant, budgets.user, budgets.levels)
    by_variable = load({"STEADYHAND__BUDGETS__USER_MONTHLY_USD": "3"}, {TOML: written}).budgets
    assert (by_variable.user, by_variable.tenant) == (Decimal(3), Decimal("0.07"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("user_monthly_usd = -1", "expected float >= 0.0"),
        ('tenant_monthly_usd = "much"', "expected float | null, got str"),
        ("notify = [0.5, 2]", "expected float <= 1.0 at [1]"),
        ("notify = [0]", "expected float > 0.0 at [0]"),
    ],
)
def test_budgets_that_are_none(line: str, why: str) -> None:
    (problem,) = problems({}, {TOML: f"[budgets]\n{line}\n"})
    assert problem.startswith(f"{TOML}:2: budgets.{line.partition(' ')[0]}")
    assert why in problem


async def refused(folder: Path, toml: str, limits: str = "") -> list[str]:
    """What is wrong with such a workspace: in which file, and what."""
    (folder / "agents").mkdir()
    (folder / "agents" / "a.yaml").write_text(CHAT + limits)
    (folder / "steadyhand.toml").write_text('default_agent = "a"\n' + toml)
    try:
        await check_budgets(load_workspace(folder, {"OPENAI_API_KEY": "k"}))
    except ConfigError as error:
        return [f"{Path(problem.where).name} {problem.what}" for problem in error.problems]
    return []


CHAIN = '[models.default]\nchain = ["openai/gpt-4o", "local/llama"]\n'
FREE = '[[prices]]\nmodel = "local/llama"\ninput = 0\noutput = 0\n'
USER = "[budgets]\nuser_monthly_usd = 5\n"
COST = "limits: {cost_usd: 1}\n"


@pytest.mark.parametrize(
    ("toml", "limits", "wrong"),
    [
        (USER, COST, []),  # offline costs nothing, which is known
        (LOCAL + CHAIN, "", []),
        (LOCAL + CHAIN, "limits: {tokens: 5}\n", []),
        (LOCAL + CHAIN + USER, "", ["steadyhand.toml budgets.user_monthly_usd"]),
        (LOCAL + CHAIN, COST, ["a.yaml limits.cost_usd"]),
        (LOCAL + CHAIN + FREE + USER, COST, []),
    ],
)
async def test_a_limit_in_dollars_needs_prices(tmp_path: Path, toml: str, limits: str, wrong: list[str]) -> None:
    assert await refused(tmp_path, toml, limits) == wrong
