"""What tells a loop from work that repeats itself, and ends it in time."""

from __future__ import annotations

from ops.mutants.run import Mutant

TESTS = ("tests/agent/test_loops.py", "tests/agent/test_likeness.py")
LOOPS_FILE = "app/agent/loops.py"
LIKENESS = "app/agent/likeness.py"
NOISE = "app/agent/noise.py"
WAITING = "app/agent/waiting.py"

LOOPS = (
    Mutant(name="four times", file=LOOPS_FILE, old="REPEATS = 4\n", new="REPEATS = 5\n", tests=TESTS),
    Mutant(name="patience with waiting", file=LIKENESS, old="PATIENCE = 6\n", new="PATIENCE = 1\n", tests=TESTS),
    Mutant(
        name="patience with errors that may pass",
        file=LIKENESS,
        old="patience = TRIES if ",
        new="patience = 1 if ",
        tests=TESTS,
    ),
    Mutant(name="long patterns", file=LOOPS_FILE, old="LONGEST = 12\n", new="LONGEST = 1\n", tests=TESTS),
    Mutant(
        name="steps in any order",
        file=LOOPS_FILE,
        old="        self._stale = self._stale + 1 if self._seen.issuperset(calls) else 0\n",
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
        old="(len(said) // max(1, steps), len(said))",
        new="(1 + self._stale // max(1, steps), len(said))",
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
        old="self._failures = self._failures + 1 if made.failed else 0",
        new="self._failures = 0",
        tests=TESTS,
    ),
    Mutant(
        name="rounds that tell nothing",
        file=LOOPS_FILE,
        old="self._idle = 0 if made.news else",
        new="self._idle = 0 if True else",
        tests=TESTS,
    ),
    Mutant(
        name="a count goes on evenly",
        file=LOOPS_FILE,
        old="(*step.counted, str(rise))",
        new="(*step.counted,)",
        tests=TESTS,
    ),
    Mutant(name="a count is one", file=LOOPS_FILE, old="if min(rise) < 0 or any", new="if True or any", tests=TESTS),
    Mutant(
        name="nonces are noise",
        file=NOISE,
        old="if not _is_noise(key) and not _is_draw(item)}",
        new="if True}",
        tests=TESTS,
    ),
    Mutant(name="times are noise", file=NOISE, old='_CLOCK.sub("<time>", text)', new="text", tests=TESTS),
    Mutant(name="ids are noise", file=NOISE, old='_SIGN.sub("<id>", ', new="str(", tests=TESTS),
    Mutant(
        name="lists have no order",
        file=NOISE,
        old="        return sorted((_settle(item) for item in value), key=text_of)\n",
        new="        return [_settle(item) for item in value]\n",
        tests=TESTS,
    ),
    Mutant(
        name="what is said back",
        file=NOISE,
        old="    for item in sorted(given, key=len, reverse=True):\n",
        new="    for item in []:\n",
        tests=TESTS,
    ),
    Mutant(
        name="other words that find the same",
        file=LIKENESS,
        old="    several = frozenset(name for name in queries if ",
        new="    several = frozenset(name for name in () if ",
        tests=TESTS,
    ),
    Mutant(
        name="places in a list", file=LIKENESS, old="(not places and _is_place(name, item))", new="False", tests=TESTS
    ),
    Mutant(
        name="a verdict answers its own question",
        file=LIKENESS,
        old='if kind == "verdict" and not _worded(value, given, queries):',
        new="if False:",
        tests=TESTS,
    ),
    Mutant(
        name="one word may be a thing",
        file=LIKENESS,
        old='if kind not in ("nothing", "long") or len(given[name].split()) > 1',
        new="if True",
        tests=TESTS,
    ),
    Mutant(
        name="what is written is another deed",
        file=LIKENESS,
        old="alike=_alike(call, given, kind, value, result) if looks and not promised else None,",
        new="alike=_alike(call, given, kind, value, result),",
        tests=TESTS,
    ),
    Mutant(
        name="a write does not wait",
        file=LIKENESS,
        old="return looks and waiting.waits(value)",
        new="return waiting.waits(value)",
        tests=TESTS,
    ),
    Mutant(
        name="a state that is an end",
        file=WAITING,
        old="        return not any(_is_end(state) for state in states)\n",
        new="        return True\n",
        tests=TESTS,
    ),
    Mutant(
        name="a plain no", file=WAITING, old="    return any(item is False or (", new="    return any((", tests=TESTS
    ),
    Mutant(
        name="so many calls of a message",
        file=LOOPS_FILE,
        old="said.tool_calls[PARALLEL:]",
        new="said.tool_calls[len(said.tool_calls) :]",
        tests=TESTS,
    ),
    Mutant(
        name="patience with what rises evenly",
        file=LOOPS_FILE,
        old="        patience = TALLY if max(rise) == 1 or not step.looks else likeness.PATIENCE\n",
        new="        patience = TALLY\n",
        tests=TESTS,
    ),
    Mutant(
        name="what rises by one",
        file=LOOPS_FILE,
        old="TALLY if max(rise) == 1 or not step.looks else",
        new="TALLY if not step.looks else",
        tests=TESTS,
    ),
    Mutant(name="the same long result", file=LOOPS_FILE, old="ALIKE = 16\n", new="ALIKE = 32\n", tests=TESTS),
    Mutant(
        name="a page before the end",
        file=LIKENESS,
        old="return bool(ends) and any(",
        new="return False and any(",
        tests=TESTS,
    ),
    Mutant(
        name="a page past the end",
        file=LIKENESS,
        old="any(place < max(ends) for place in places)",
        new="any(True for _ in places)",
        tests=TESTS,
    ),
    Mutant(
        name="what is nested deeply",
        file=NOISE,
        old="return text if _is_deep(value) else value",
        new="return value",
        tests=TESTS,
    ),
)
