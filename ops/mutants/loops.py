"""What tells a loop from work that repeats itself, and ends it in time."""

from __future__ import annotations

from ops.mutants.run import Mutant

TESTS = ("tests/agent/test_loops.py",)
LOOPS_FILE = "app/agent/loops.py"
LIKENESS = "app/agent/likeness.py"

LOOPS = (
    Mutant(name="four times", file=LOOPS_FILE, old="REPEATS = 4\n", new="REPEATS = 5\n", tests=TESTS),
    Mutant(name="patience with waiting", file=LOOPS_FILE, old="PATIENCE = 5\n", new="PATIENCE = 1\n", tests=TESTS),
    Mutant(name="long patterns", file=LOOPS_FILE, old="LONGEST = 12\n", new="LONGEST = 1\n", tests=TESTS),
    Mutant(
        name="steps in any order",
        file=LOOPS_FILE,
        old="        self._stale = self._stale + 1 if self._seen.issuperset(pairs) else 0\n",
        new="        self._stale = 0\n",
        tests=TESTS,
    ),
    Mutant(
        name="where the steps began",
        file=LOOPS_FILE,
        old="        while first and steps.issuperset(self._said[first - 1]):\n            first -= 1\n",
        new="",
        tests=TESTS,
    ),
    Mutant(
        name="only what came in a row",
        file=LOOPS_FILE,
        old="(times := _patient(len(rounds) // max(1, steps), rounds))",
        new="(times := _patient(1 + self._stale // len({pair for pairs in self._said[-self._stale :] for pair in pairs}), rounds))",
        tests=TESTS,
    ),
    Mutant(
        name="calls that were not run",
        file=LOOPS_FILE,
        old="        if _refused(state, call, result):\n",
        new="        if False:\n",
        tests=TESTS,
    ),
    Mutant(
        name="the user begins anew",
        file=LOOPS_FILE,
        old='        elif message.role == "user":\n            self._begin()\n',
        new='        elif message.role == "user":\n            pass\n',
        tests=TESTS,
    ),
    Mutant(
        name="rounds that only fail",
        file=LOOPS_FILE,
        old="        failed = len(self._failures) * REPEATS // FAILURES\n",
        new="        failed = 0\n",
        tests=TESTS,
    ),
    Mutant(
        name="nonces are noise",
        file=LIKENESS,
        old="if not _is_noise(key)}",
        new="if True}",
        tests=TESTS,
    ),
    Mutant(
        name="times are noise",
        file=LIKENESS,
        old='_CLOCK.sub("<time>", result)',
        new="result",
        tests=TESTS,
    ),
    Mutant(
        name="other words that find the same",
        file=LIKENESS,
        old='spec is not None and spec.effect == "read" and',
        new="False and",
        tests=TESTS,
    ),
    Mutant(
        name="what names a thing counts",
        file=LIKENESS,
        old="isinstance(item, dict | list) or _names(key)",
        new="isinstance(item, dict | list)",
        tests=TESTS,
    ),
    Mutant(
        name="so many calls of a message",
        file=LOOPS_FILE,
        old="said.tool_calls[PARALLEL:]",
        new="said.tool_calls[len(said.tool_calls) :]",
        tests=TESTS,
    ),
)
