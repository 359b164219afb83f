"""What a person's word is worth: what it is bound to, whose it may be, and that it is kept."""

from __future__ import annotations

from ops.mutants.run import Mutant

TESTS = ("tests/api/test_decisions.py", "tests/api/test_deciders.py")
SERVICE = "app/runs/approvals.py"
STORE = "app/storage/postgres/approvals.sql"

DECISIONS = (
    Mutant(
        name="a word is bound to an edit",
        file="app/agent/decide.py",
        old="        and state.bound.get(call.id, runs_with) == runs_with\n",
        new="",
        tests=("tests/agent/test_decide.py",),
    ),
    Mutant(
        name="an edit is validated",
        file=SERVICE,
        old="        if problem is not None:\n            raise _wrong(problem)\n",
        new="",
        tests=TESTS,
    ),
    Mutant(
        name="an equal edit is none",
        file=SERVICE,
        old="            if not changes(approval.arguments, arguments):\n                arguments = None\n",
        new="",
        tests=TESTS,
    ),
    Mutant(
        name="the scope to decide",
        file=SERVICE,
        old='        if not principal.may("approvals"):\n',
        new="        if False:\n",
        tests=TESTS,
    ),
    Mutant(
        name="the scope for critical calls",
        file=SERVICE,
        old='approval.risk == "critical" and not principal.may("approvals.critical")',
        new="False",
        tests=TESTS,
    ),
    Mutant(
        name="four eyes",
        file=SERVICE,
        old="        if created.actor == principal.actor or (principal.user is not None and principal.user in users):\n",
        new="        if False:\n",
        tests=TESTS,
    ),
    Mutant(
        name="decisions in the audit log",
        file=STORE,
        old="        'run_id', run_id, 'tool', tool, 'risk', risk, 'digest', coalesce($9::text, digest), 'edited', $5::json IS NOT NULL\n    ) FROM decided\n",
        new="        'digest', $9::text, 'edited', $5::json IS NOT NULL\n    ) FROM decided WHERE false\n",
        tests=TESTS,
    ),
    Mutant(
        name="cancelled approvals in the audit log",
        file="app/storage/postgres/runs.sql",
        old="        'run_id', $1::text, 'tool', tool, 'risk', risk, 'digest', digest, 'edited', false\n    ) FROM asked\n",
        new="        'edited', false\n    ) FROM asked WHERE false\n",
        tests=TESTS,
    ),
    Mutant(
        name="the audit log is for admins",
        file="app/runs/audit.py",
        old='        if not principal.may("admin"):\n',
        new="        if False:\n",
        tests=TESTS,
    ),
)
