"""The mechanisms of the ledger and of budgets, each as the text that it is made of."""

from __future__ import annotations

from ops.mutants.run import Mutant

MIGRATION = "migrations/0005_usage.sql"
BOOKS = "tests/storage/postgres/test_usage.py"
SETTLEMENT = "tests/runs/test_settlement.py"
BUDGETS = "tests/runs/test_budgets.py"

MONEY = (
    Mutant(
        name="a reservation fits its cap",
        file=MIGRATION,
        old="    WHERE most IS NULL OR b.spent + b.reserved + amount <= most\n",
        new="",
        tests=(BOOKS, BUDGETS),
    ),
    Mutant(
        name="what is reserved counts",
        file=MIGRATION,
        old="b.spent + b.reserved + amount <= most",
        new="b.spent + amount <= most",
        tests=(BOOKS, BUDGETS),
    ),
    Mutant(
        name="all scopes or none",
        file=MIGRATION,
        old="                UPDATE budgets b SET reserved = b.reserved - amount\n",
        new="                UPDATE budgets b SET reserved = b.reserved\n",
        tests=(BOOKS,),
    ),
    Mutant(
        name="a stale owner opens nothing",
        file=MIGRATION,
        old="    WHERE r.id = of_run AND r.lease_epoch = of_epoch AND r.status = 'running';\n",
        new="    WHERE r.id = of_run;\n",
        tests=(BOOKS,),
    ),
    Mutant(
        name="a row is settled once",
        file=MIGRATION,
        old="        WHERE u.id = s.id AND u.settled_at IS NULL\n",
        new="        WHERE u.id = s.id\n",
        tests=(BOOKS,),
    ),
    Mutant(
        name="settlement releases",
        file=MIGRATION,
        old="SET spent = b.spent + charged, reserved = b.reserved - released\n",
        new="SET spent = b.spent + charged\n",
        tests=(BOOKS, SETTLEMENT),
    ),
    Mutant(
        name="the end settles, too",
        file="app/storage/postgres/runs.sql",
        old="FROM line WHERE $21 IS NOT NULL",
        new="FROM line WHERE $21 IS NULL",
        tests=(SETTLEMENT,),
    ),
    Mutant(
        name="who takes over settles",
        file="app/runs/execution.py",
        old="            self._ledger.used(*record.abandoned(attempt))\n",
        new="            record.abandoned(attempt)\n",
        tests=(SETTLEMENT,),
    ),
    Mutant(
        name="a row before the first byte",
        file="app/runs/attempts.py",
        old="        opened = await patiently(lambda: self._ledger.open(opening))\n",
        new="        from app.domain.usage import Opened\n        opened = Opened()\n",
        tests=(SETTLEMENT, BUDGETS),
    ),
    Mutant(
        name="no run without a budget",
        file="app/storage/postgres/runs.sql",
        old="AND NOT ($29::numeric IS NOT NULL AND EXISTS (",
        new="AND NOT ($29::numeric IS NOT NULL AND false AND EXISTS (",
        tests=(BOOKS, BUDGETS),
    ),
    Mutant(
        name="a used-up run asks no model",
        file="app/agent/decide.py",
        old="    if isinstance(decision, CallModel) and (reason := state.used_up) is not None:\n",
        new="    if False and isinstance(decision, CallModel) and (reason := state.used_up) is not None:\n",
        tests=("tests/agent/test_limits.py",),
    ),
    Mutant(
        name="what nobody counted is estimated",
        file="app/llm/prices.py",
        old='        if attempt.basis == "estimated" and attempt.input_tokens is not None:\n',
        new="        if False:\n",
        tests=("tests/llm/test_broken_prices.py",),
    ),
    Mutant(
        name="a level is told before the end",
        file="app/runs/ledger.py",
        old="        if self._near:\n            await self.flush()\n",
        new="        return\n",
        tests=(BUDGETS,),
    ),
)
