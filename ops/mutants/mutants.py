"""The mechanisms, each as the text that it is made of. A file that changes there makes its mutant an error, not a survivor."""

from __future__ import annotations

from ops.mutants.access import ACCESS
from ops.mutants.batches import BATCHES
from ops.mutants.cache import CACHE
from ops.mutants.decisions import DECISIONS
from ops.mutants.limits import LIMITS
from ops.mutants.loops import LOOPS
from ops.mutants.money import MONEY
from ops.mutants.placeholders import PLACEHOLDERS
from ops.mutants.run import Mutant
from ops.mutants.screening import SCREENING

RUNS = "app/storage/postgres/runs.sql"
CLAIM = "migrations/0013_agents_at_once.sql"
DURABILITY = "tests/runs/test_durability.py"
CONTROL = "tests/runs/test_control.py"
STREAM = "tests/runs/test_stream.py"
FENCES = "tests/faults/test_fences.py"
LEDGER_TESTS = "tests/faults/test_ledger.py"

FENCE = (
    Mutant(
        name="fence of an append",
        file=RUNS,
        old="WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3\n    RETURNING tenant, owner, inbox\n",
        new="WHERE id = $1 AND $2::bigint IS NOT NULL AND $3::integer IS NOT NULL\n    RETURNING tenant, owner, inbox\n",
        tests=(FENCES,),
    ),
    Mutant(
        name="epoch in an append",
        file=RUNS,
        old="WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3\n    RETURNING tenant, owner, inbox\n",
        new="WHERE id = $1 AND $2::bigint IS NOT NULL AND status = 'running' AND last_seq = $3\n    RETURNING tenant, owner, inbox\n",
        tests=(FENCES,),
    ),
    Mutant(
        name="fence of an end",
        file=RUNS,
        old="WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3 AND ($20",
        new="WHERE id = $1 AND $2::bigint IS NOT NULL AND status = 'running' AND last_seq = $3 AND ($20",
        tests=(FENCES,),
    ),
    Mutant(
        name="fence of a wait",
        file=RUNS,
        old="WHERE id = $1 AND lease_epoch = $2 AND status = 'running' AND last_seq = $3 AND inbox = $14",
        new="WHERE id = $1 AND $2::bigint IS NOT NULL AND status = 'running' AND last_seq = $3 AND inbox = $14",
        tests=(FENCES,),
    ),
    Mutant(
        name="fence of a hand-back",
        file=RUNS,
        old="    WHERE id = $1 AND lease_epoch = $2 AND status = 'running'\n    RETURNING tenant, session_id\n",
        new="    WHERE id = $1 AND $2::bigint IS NOT NULL AND status = 'running'\n    RETURNING tenant, session_id\n",
        tests=(FENCES,),
    ),
    Mutant(
        name="epoch in a heartbeat",
        file=RUNS,
        old="runs.id = mine.id AND runs.lease_epoch = mine.epoch AND",
        new="runs.id = mine.id AND",
        tests=(FENCES,),
    ),
    Mutant(
        name="epoch bump of a recovery",
        file=RUNS,
        old="UPDATE runs SET lease_epoch = lease_epoch + 1, failures = failures + 1,",
        new="UPDATE runs SET failures = failures + 1,",
        tests=(FENCES,),
    ),
    Mutant(
        name="epoch bump of a claim",
        file=CLAIM,
        old="UPDATE runs r SET status = 'running', lease_epoch = lease_epoch + 1, attempt",
        new="UPDATE runs r SET status = 'running', attempt",
        tests=(FENCES,),
    ),
    Mutant(
        name="epoch bump of a hand-back",
        file=RUNS,
        old="queued_at = clock_timestamp(), lease_epoch = lease_epoch + 1,\n        lease_owner = NULL",
        new="queued_at = clock_timestamp(),\n        lease_owner = NULL",
        tests=(FENCES,),
    ),
)
LEASE = (
    Mutant(
        name="lease extended by appends",
        file=RUNS,
        old="UPDATE runs SET last_seq = $4, lease_until = clock_timestamp() + make_interval(secs => $10)\n",
        new="UPDATE runs SET last_seq = $4, lease_until = CASE WHEN $10::float8 > 0 THEN lease_until END\n",
        tests=(FENCES,),
    ),
    Mutant(
        name="lease extended by heartbeats",
        file=RUNS,
        old="UPDATE runs SET lease_until = clock_timestamp() + make_interval(secs => $3)\nFROM unnest",
        new="UPDATE runs SET lease_until = CASE WHEN $3::float8 > 0 THEN lease_until END\nFROM unnest",
        tests=(FENCES,),
    ),
    Mutant(
        name="only leases that ran out",
        file=RUNS,
        old="lease_until < statement_timestamp()",
        new="lease_until IS NOT NULL",
        tests=(FENCES,),
        times=2,
    ),
    Mutant(
        name="bounded attempts",
        file="app/runs/worker.py",
        old="poisonous = owned.failures >= self._max_attempts",
        new="poisonous = False",
        tests=(f"{DURABILITY}::test_a_poisonous_run_ends_and_can_be_resumed",),
    ),
    Mutant(
        name="effects end with the lease",
        file="app/runs/worker.py",
        old='                execution.stop.call("lease")\n',
        new="                pass\n",
        tests=(f"{DURABILITY}::test_a_lost_lease_stops_the_effects_and_hands_the_run_on",),
    ),
    Mutant(
        name="no beat for a dead loop",
        file="app/runs/heartbeat.py",
        old="        if stalled or not asked:",
        new="        if not asked:",
        tests=("tests/runs/test_heartbeat.py",),
    ),
)
LEDGER = (
    Mutant(
        name="ledger check",
        file="app/agent/decide.py",
        old='return _Lost(call) if spec is not None and unseen(spec.effect) == "outcome_unknown" else _Runs(call)',
        new="return _Runs(call)",
        tests=(f"{DURABILITY}::test_a_run_goes_on_where_its_owner_died", "tests/agent/test_decide.py"),
    ),
    Mutant(
        name="intent before effect",
        file="app/runs/tool_calls.py",
        old="        self._intend(decision)\n",
        new="",
        tests=(f"{DURABILITY}::test_a_run_goes_on_where_its_owner_died",),
    ),
    Mutant(
        name="intent stored before effect",
        file="app/runs/tool_calls.py",
        old="        await ledger.flush()\n        began = time.monotonic()\n",
        new="        began = time.monotonic()\n",
        tests=(LEDGER_TESTS,),
    ),
    Mutant(
        name="one key for a call",
        file="app/runs/tool_calls.py",
        old="{self._owned.run_id}\\n{state.iterations}",
        new="{self._owned.run_id}\\n{self._owned.attempt}\\n{state.iterations}",
        tests=(f"{DURABILITY}::test_a_run_goes_on_where_its_owner_died",),
    ),
    Mutant(
        name="append shield",
        file="app/runs/journal.py",
        old="        await asyncio.shield(write)\n",
        new="        await write\n",
        tests=(LEDGER_TESTS,),
    ),
    Mutant(
        name="lost answers are looked for",
        file="app/runs/journal.py",
        old="if unsure and await self._arrived(new):",
        new="if False:",
        times=2,
        tests=("tests/runs/test_faults.py",),
    ),
    Mutant(
        name="what was done is restored",
        file="app/runs/execution.py",
        old="        self.state.restore(stored)\n",
        new="        self.state.apply(self._job.created)\n",
        tests=(f"{DURABILITY}::test_a_finished_model_call_is_not_paid_again",),
    ),
)
INBOX = (
    Mutant(
        name="inbox check of an end",
        file=RUNS,
        old="AND ($20::integer IS NULL OR inbox = $20)",
        new="AND ($20::integer IS NULL OR true)",
        tests=(f"{CONTROL}::test_a_cancel_that_was_accepted_wins_over_an_answer_that_is_not_stored_yet",),
    ),
    Mutant(
        name="steering joins once",
        file="app/runs/execution.py",
        old="                elif post.id not in self.state.steered:\n",
        new="                else:\n",
        tests=(f"{CONTROL}::test_steering_survives_a_crash_and_comes_once",),
    ),
    Mutant(
        name="stop of a dead owner's run",
        file="app/runs/execution.py",
        old="                if self._stop.cause is not None and self._stop.cause not in HANDED_ON:\n",
        new="                if False:\n",
        tests=(f"{CONTROL}::test_a_cancel_from_another_process_survives_the_owners_death",),
    ),
)
ORDER = (
    Mutant(
        name="session order",
        file=CLAIM,
        old="r.status IN ('queued', 'running', 'waiting')\n            AND r.not_before IS NULL\n        ORDER BY r.turn LIMIT 1",
        new="r.status = 'queued'\n            AND r.not_before IS NULL\n        ORDER BY r.turn DESC LIMIT 1",
        tests=(
            "tests/runs/test_service.py::test_turns_of_one_session_run_one_after_another",
            "tests/storage/postgres/test_claims.py",
        ),
    ),
    Mutant(
        name="a wait keeps its session's line",
        file=CLAIM,
        old="r.status IN ('queued', 'running', 'waiting')\n",
        new="r.status IN ('queued', 'running')\n",
        tests=(LEDGER_TESTS,),
    ),
    Mutant(
        name="busy sessions queue",
        file=RUNS,
        old="before.slot AND $19 IS NULL AND NOT before.busy AND coalesce",
        new="before.slot AND $19 IS NULL AND coalesce",
        tests=("tests/runs/test_service.py::test_turns_of_one_session_run_one_after_another",),
    ),
)
KEYS = (
    Mutant(
        name="key check of a run",
        file=RUNS,
        old="    WHERE ($26 IS NULL OR EXISTS (SELECT FROM key)) AND NOT",
        new="    WHERE ($26 IS NULL OR true OR EXISTS (SELECT FROM key)) AND NOT",
        tests=(f"{CONTROL}::test_one_key_is_one_run",),
    ),
    Mutant(
        name="fingerprint of a run's key",
        file=RUNS,
        old="SELECT run_id, fingerprint = $6 AS same FROM",
        new="SELECT run_id, $6::text IS NOT NULL AS same FROM",
        tests=(f"{CONTROL}::test_one_key_is_one_run",),
    ),
    Mutant(
        name="key check of other calls",
        file="app/storage/postgres/keys.sql",
        old="OR (k.fingerprint = excluded.fingerprint AND k.status IS NULL AND coalesce(k.locked_until, '-infinity') <= clock_timestamp())",
        new="OR true",
        tests=("tests/storage/postgres/test_keys.py",),
    ),
)
STREAMS = (
    Mutant(
        name="offset check",
        file="app/runs/stream.py",
        old="        rest = message.content[self._offset :]\n",
        new="        rest = message.content\n",
        tests=(STREAM,),
    ),
    Mutant(
        name="seq check of readers",
        file="app/runs/stream.py",
        old="for event in events if event.seq > self._seq for item",
        new="for event in events for item",
        tests=(STREAM, "tests/runs/test_clients.py"),
    ),
    Mutant(
        name="a dead attempt's text is forgotten",
        file="app/runs/stream.py",
        old='            if name == "run.started" or (name == "run.finished" and not self._told):\n',
        new="            if False:\n",
        tests=(STREAM,),
    ),
    Mutant(
        name="known events are left out",
        file="app/runs/live.py",
        old="        new = [event for event in events if event.seq > self.seq]\n",
        new="        new = list(events)\n",
        tests=("tests/runs/test_live.py",),
    ),
)
PEOPLE = (
    Mutant(
        name="an approval is for its arguments",
        file="app/agent/decide.py",
        old="        state.digests.get(call.id) == digest(call.name, call.arguments)\n        and ",
        new="        ",
        tests=("tests/agent/test_decide.py",),
    ),
    Mutant(
        name="an approval is decided once",
        file="app/storage/postgres/approvals.sql",
        old="WHERE a.id = $1 AND a.status = 'pending' AND r.id",
        new="WHERE a.id = $1 AND r.id",
        tests=(LEDGER_TESTS,),
    ),
    Mutant(
        name="an approval ends with its time",
        file="app/storage/postgres/approvals.sql",
        old="        AND ($2 = 'expired' OR a.expires_at > statement_timestamp())\n",
        new="",
        tests=("tests/runs/test_people.py",),
    ),
)

MUTANTS: tuple[Mutant, ...] = (
    *FENCE, *LEASE, *LEDGER, *INBOX, *ORDER, *KEYS, *ACCESS, *STREAMS, *PEOPLE, *DECISIONS, *LOOPS, *MONEY, *BATCHES, *CACHE, *LIMITS,
    *SCREENING, *PLACEHOLDERS,
)  # fmt: skip
