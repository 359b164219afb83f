"""Runs that go round in circles: found in what was said and done since the user last spoke, and ended with what is known.

A round is one message of the model with the results of its calls. A pattern is a round, or several that come in turn; it may
come four times. All of it is a function of the run's messages, each looked at once, so it is the same after a crash. See ops/decisions/0021.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.agent import likeness, structured
from app.agent.likeness import REFUSED, Pair
from app.domain import events as ev
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall

REPEATS = 4
"""How often a pattern may come: once, and three times more."""
WARNED = REPEATS - 1
"""When the model is told."""
PATIENCE = 5
"""So many times of waiting for something count as one: twenty looks at a job that is not done yet."""
FEW = 2
"""So many times of which nothing but numbers is new count as one: eight looks at a counter."""
FAILURES = 2 * REPEATS
"""So many rounds in turn in which every call failed, whatever was tried."""
LONGEST = 12
"""Rounds of the longest pattern that is looked for: the most of which four fit into a run."""
PARALLEL = 32
"""Calls of one message that are run."""
CALLS = 256
"""Calls of one run, all messages together, after which it has to answer."""

NOTE = (
    "[The last steps repeat earlier ones, with the same outcome: they make no progress. Do something else, or answer with what is known. "
    "If this goes on, the answer will have to be given without tools.]"
)
TOO_MANY = (
    f"It was not run: one message may have at most {PARALLEL} calls. Ask for the rest again, if it is still needed."
)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the model with its results. `asked`, `moved` and `found` are its readings (`likeness`), in no order; `end` is the id of
    its last message. `waits`: something in it is not there yet; `failed`: every call of it failed.
    """

    asked: tuple[Pair, ...]
    moved: tuple[Pair, ...]
    found: tuple[Pair, ...]
    tools: tuple[str, ...]
    end: str
    waits: bool = False
    failed: bool = False


def found(state: RunState) -> ev.LoopDetected | None:
    """The pattern that the run does not get out of, or that it has made more calls than any run should."""
    if len(state.call_ids) >= CALLS:
        return ev.LoopDetected(kind="fan_out")
    if len(state.messages) <= REPEATS:
        return None
    return _followed(state).loop


def notes(state: RunState) -> dict[str, str]:
    """What the model is told about its repetitions, by the id of the result at whose end that stands. What is added to the run never changes it."""
    return {} if len(state.messages) <= WARNED else _followed(state).told


def beyond(state: RunState) -> set[str]:
    """The ids of those calls of the last message that are too many for one."""
    said = next(message for message in reversed(state.messages) if message.role == "assistant")
    return {call.id for call in said.tool_calls[PARALLEL:]}


class _Watch:
    """The rounds since the user last spoke, one by one."""

    def __init__(self) -> None:
        self._asked = _Reading()
        self._moved = _Reading()
        self._found = _Reading()
        self._failures: list[Round] = []

    def take(self, made: Round) -> tuple[int, ev.LoopDetected | None]:
        """How often the pattern that the run is in has come by now, and the loop that it is from `REPEATS` on."""
        self._failures = [*self._failures, made] if made.failed else []
        asked, by_asked = self._asked.take(made.asked, made)
        moved, by_moved = self._moved.take(made.moved, made)
        found, by_found = self._found.take(made.found, made)
        failed = len(self._failures) * REPEATS // FAILURES
        moved //= FEW
        times = max(asked, moved, found, failed)
        if times < REPEATS:
            return times, None
        if asked == times:
            refused = all(pairs == (REFUSED,) for pairs in (one.asked for one in by_asked))
            return times, _loop("refused" if refused else "repeated" if len(by_asked) == 1 else "cycle", by_asked)
        return times, _loop(
            "no_progress", by_found if found == times else by_moved if moved == times else self._failures
        )


class _Reading:
    """One reading of the rounds. A pattern comes in turn (the last rounds are those of a while ago), or its steps come in any order
    (nothing is new any more).
    """

    def __init__(self) -> None:
        self._rounds: list[Round] = []
        self._said: list[tuple[Pair, ...]] = []
        self._same = [0] * (LONGEST + 1)
        self._seen: set[Pair] = set()
        self._stale = 0

    def take(self, pairs: tuple[Pair, ...], made: Round) -> tuple[int, list[Round]]:
        """How often the pattern has come, with times of waiting counted as fewer, and its rounds."""
        self._said.append(pairs)
        self._rounds.append(made)
        at = len(self._said) - 1
        best, pattern = 1, [made]
        for period in range(1, LONGEST + 1):
            again = at >= period and self._said[at - period] == pairs
            self._same[period] = self._same[period] + 1 if again else 0
            if (times := _patient(1 + self._same[period] // period, self._rounds[-period:])) > best:
                best, pattern = times, self._rounds[-period:]
        self._stale = self._stale + 1 if self._seen.issuperset(pairs) else 0
        if self._stale:
            stirred = self._stirred(at)
            rounds = self._rounds[stirred:]
            said = self._said[stirred:]
            steps = min(len(set(said)), len({pair for pairs in said for pair in pairs}))
            if (times := _patient(len(rounds) // max(1, steps), rounds)) > best:
                best, pattern = times, rounds
        self._seen.update(pairs)
        return best, pattern

    def _stirred(self, at: int) -> int:
        """Where the steps that are not new any more began: the rounds from there on hold nothing else."""
        first = at - self._stale + 1
        steps = {pair for pairs in self._said[first:] for pair in pairs}
        while first and steps.issuperset(self._said[first - 1]):
            first -= 1
        return first


def _patient(times: int, pattern: Sequence[Round]) -> int:
    return times // PATIENCE if any(made.waits for made in pattern) else times


def _loop(kind: ev.LoopKind, pattern: Sequence[Round]) -> ev.LoopDetected:
    tools = sorted({tool for made in pattern for tool in made.tools})
    return ev.LoopDetected(kind=kind, tools=tuple(tools))


class _Followed:
    """A run's messages as far as they were looked at, round by round; the user's begin anew. `loop`: that of the last round; `told`:
    what was said of the repetitions so far.
    """

    def __init__(self) -> None:
        self.loop: ev.LoopDetected | None = None
        self.told: dict[str, str] = {}
        self.rejected = 0
        self._taken = 0
        self._begin()

    def follow(self, state: RunState) -> None:
        """Take in the messages that are new since the last time."""
        for message in state.messages[self._taken :]:
            self._take(state, message)
        self._taken = len(state.messages)

    def _begin(self) -> None:
        self._watch, self._times = _Watch(), 0
        self.loop = None
        self._said: Message | None = None
        self._results: dict[str, Message] = {}

    def _take(self, state: RunState, message: Message) -> None:
        if message.role == "tool":
            self._results[message.call_id or ""] = message
            if self._said is not None and all(call.id in self._results for call in self._said.tool_calls):
                self._finish(_round(state, self._said, self._results, message.id))
                self._said = None
        elif message.role == "user":
            self._begin()
        elif message.id not in state.rejected:
            if message.tool_calls:
                self._said, self._results = message, {}
            elif message.stop == "pause":
                native = "" if message.native is None else bytes(message.native.items).decode()
                pairs = (("", message.content.strip(), native),)
                self._finish(Round(asked=pairs, moved=pairs, found=pairs, tools=(), end=message.id))

    def _finish(self, made: Round) -> None:
        times, self.loop = self._watch.take(made)
        if self._times < WARNED <= times and made.tools:
            self.told[made.end] = NOTE
        self._times = times


def _followed(state: RunState) -> _Followed:
    """The run so far. It grows with the state, which holds it; a draft that is rejected only now may have been counted, so that begins it again."""
    watched = state.watched
    if not isinstance(watched, _Followed) or watched.rejected != len(state.rejected):
        watched = state.watched = _Followed()
        watched.rejected = len(state.rejected)
    watched.follow(state)
    return watched


def _round(state: RunState, said: Message, results: dict[str, Message], end: str) -> Round:
    asked: set[Pair] = set()
    moved: set[Pair] = set()
    found: set[Pair] = set()
    waits, failed = False, True
    for call in said.tool_calls:
        result, spec = results[call.id], state.agent.tool(call.name)
        failed = failed and result.is_error
        if _refused(state, call, result):
            asked.add(REFUSED)
            moved.add(REFUSED)
            found.add(REFUSED)
            continue
        waits = waits or likeness.waits(call, spec, result.is_error, result.content)
        asked.add(likeness.same_asked(call, spec, result.is_error, result.content))
        moved.add(likeness.same_but_numbers(call, spec, result.is_error, result.content))
        found.add(likeness.same_found(call, spec, result.is_error, result.content))
    tools = tuple(sorted({call.name for call in said.tool_calls}))
    return Round(
        asked=tuple(sorted(asked)),
        moved=tuple(sorted(moved)),
        found=tuple(sorted(found)),
        tools=tools,
        end=end,
        waits=waits,
        failed=failed,
    )


def _refused(state: RunState, call: ToolCall, result: Message) -> bool:
    """Whether the call was not run: there is no such tool, its arguments do not fit, or somebody or some rule denied it."""
    if not result.is_error:
        return False
    spec = state.agent.tool(call.name)
    return (
        spec is None or call.id in state.refused or structured.read(call.arguments or "{}", spec.schema)[1] is not None
    )
