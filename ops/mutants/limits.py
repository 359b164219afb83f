"""What keeps one caller from another's share, and what is switched off from going on."""

from __future__ import annotations

from ops.mutants.run import Mutant

FAIRNESS = "tests/storage/postgres/test_fairness.py"
CLAIM = "migrations/0013_agents_at_once.sql"
AT_ONCE = "tests/storage/postgres/test_agents_at_once.py"
CONTROLS = "tests/api/test_controls.py"

LIMITS = (
    Mutant(
        name="a refused call takes nothing",
        file="app/storage/redis/take_limits.lua",
        old="  if taken == 1 then\n",
        new="  if total < most then\n",
        tests=("tests/storage/redis/test_limiters.py",),
    ),
    Mutant(
        name="the slice that a window only touches",
        file="app/storage/local/limiter.py",
        old="        first = now // self.width - SLICES\n",
        new="        first = now // self.width - SLICES + 1\n",
        tests=("tests/storage/test_local_limiter.py",),
    ),
    Mutant(
        name="refused before the body is read",
        file="app/main.py",
        old=", within_limits]",
        new="]",
        tests=("tests/api/test_limits.py::test_a_refusal_asks_no_database_and_reads_no_body",),
    ),
    Mutant(
        name="a key is no way around the early refusal",
        file="app/api/limits.py",
        old="        if not keyed or not (await self._repeats.take(repeats)).allowed:\n",
        new="        if not keyed:\n",
        tests=("tests/api/test_limits.py::test_a_key_lets_nobody_past_the_refusal_for_long",),
    ),
    Mutant(
        name="a replay is given back",
        file="app/api/limits.py",
        old="        if started.replayed:\n",
        new="        if False:\n",
        tests=("tests/api/test_limits.py::test_a_repeated_request_does_not_count_twice",),
    ),
    Mutant(
        name="a tenant's most, claimed",
        file=CLAIM,
        old="IF tenant_is_full(turn.of_tenant, most) THEN",
        new="IF false THEN",
        tests=(FAIRNESS,),
    ),
    Mutant(
        name="a tenant's most, born",
        file="app/storage/postgres/runs.sql",
        old="$9 AND $34::integer > (",
        new="$9 AND 1000000 + $34::integer > (",
        tests=(FAIRNESS,),
    ),
    Mutant(
        name="an agent's most",
        file=CLAIM,
        old="IF agent_is_full(head.agent, room) OR NOT from_line",
        new="IF NOT from_line",
        tests=(AT_ONCE,),
    ),
    Mutant(
        name="claims of such agents one after another",
        file=CLAIM,
        old="PERFORM pg_advisory_xact_lock(1302);\n                alone",
        new="alone",
        tests=(AT_ONCE,),
    ),
    Mutant(
        name="an agent's next",
        file=CLAIM,
        old="from_line := FOUND;",
        new="from_line := false;",
        tests=(AT_ONCE,),
    ),
    Mutant(
        name="a run of such an agent is not born running",
        file="app/runs/worker.py",
        old="if agent in self._agents.at_once:",
        new="if False:",
        tests=("tests/runs/test_admission.py",),
    ),
    Mutant(
        name="nobody is born before who waits",
        file="app/runs/worker.py",
        old="if self._starved or self._waiting or not self._has_slot()",
        new="if self._starved or not self._has_slot()",
        tests=("tests/runs/test_admission.py::test_what_arrives_is_not_born_while_others_wait",),
    ),
    Mutant(
        name="what runs is stopped by its switch",
        file="app/runs/worker.py",
        old="        switches.tells(self._switched)\n",
        new="",
        tests=(f"{CONTROLS}::test_what_runs_is_stopped_and_what_is_queued_ends",),
    ),
    Mutant(
        name="what is claimed is stopped by its switch",
        file="app/runs/worker.py",
        old="        self._admission.runs(owned.tenant)\n        self._stop_if_off(execution)\n",
        new="        self._admission.runs(owned.tenant)\n",
        tests=(f"{CONTROLS}::test_what_runs_is_stopped_and_what_is_queued_ends",),
    ),
    Mutant(
        name="a tool that is off, also approved",
        file="app/runs/switched.py",
        old="if (switch := self._switches.tool(context.tenant, call.name)) is not None:",
        new="if (switch := self._switches.tool(context.tenant, call.name)) is not None and False:",
        tests=(f"{CONTROLS}::test_a_tool_that_is_off_is_denied_to_the_model_also_where_it_was_approved",),
    ),
)
