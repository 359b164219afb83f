"""Runs that go round in circles: found in what was said and done since the user last spoke, and ended with what is known.

A round is one message of the model with the results of its calls. A pattern is a round, or several that come in turn; it may
come four times. All of it is a function of the run's messages, each looked at once, so it is the same after a crash. See ops/decisions/0021.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.agent import likeness, structured
from app.agent.likeness import Key, Step
from app.domain import events as ev
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall

REPEATS = 4
"""How often a pattern may come: once, and three times more."""
WARNED = REPEATS - 1
"""When the model is told."""
FAILURES = 8
"""So many rounds in turn in which every call failed, whatever was tried."""
IDLE = 32
"""So many rounds in turn of which none told anything new, whatever was asked."""
TALLY = 2
"""So many looks whose number rises by one count as one: it may be the number of the looks."""
LONGEST = 12
"""Rounds of the longest pattern that is looked for: the most of which four fit into a run."""
ALIKE = 16
"""So many looks in turn with one and the same long result, whatever was asked."""
PARALLEL = 32
"""Calls of one message that are run."""
CALLS = 256
"""Calls of one run, all messages together, after which it has to answer."""
REFUSED = 0
"""The number of every call that was not run: which one it was makes no progress."""

NOTE = (
    "[The last steps repeat earlier ones, with the same outcome: they make no progress. Do something else, or answer with what is known. "
    "If this goes on, the answer will have to be given without tools.]"
)
TOO_MANY = (
    f"It was not run: one message may have at most {PARALLEL} calls. Ask for the rest again, if it is still needed."
)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the model with its results. `calls`: the numbers of its steps, `counts` those with their numbers as steps of a count, both
    in no order; `loosely`: one of them was known by another reading than that of the very same call; `patience`: so many times count as one.
    """

    calls: tuple[int, ...]
    counts: tuple[int, ...]
    tools: tuple[str, ...]
    patience: int = 1
    loosely: bool = False
    counting: bool = False
    failed: bool = False
    news: bool = True
    long: bool = False


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


class _Steps:
    """The steps since the user last spoke, by number: one that is the same as an earlier one, in either reading, has its number."""

    def __init__(self) -> None:
        self._known: dict[Key, int] = {}
        self._last: dict[Key, tuple[float, ...]] = {}
        self._told: set[Key] = set()

    def number(self, step: Step) -> tuple[int, bool]:
        """The number of that step, and whether it is known by a reading that leaves something out."""
        number = self._known.get(step.same)
        loosely = number is None and step.alike is not None and step.alike in self._known
        if number is None:
            number = self._known[step.alike] if loosely and step.alike is not None else self._next()
        self._known.setdefault(step.same, number)
        if step.alike is not None:
            self._known.setdefault(step.alike, number)
        return number, loosely

    def count(self, step: Step, number: int) -> tuple[int, int]:
        """The number of the step as one of a count, and its patience (0: it is none): the same call again, in whose result whole numbers have risen.
        By how much is part of it: a count goes on evenly, what is measured does not. In a look numbers that move may be what is waited for.
        """
        if step.counted is None:
            return number, 0
        before = self._last.get(step.counted)
        self._last[step.counted] = step.numbers
        if before is None or before == step.numbers:
            return number, 0
        rise = [now - then for now, then in zip(step.numbers, before, strict=True)]
        if min(rise) < 0 or any(part % 1 for part in rise):
            return number, 0
        patience = TALLY if max(rise) == 1 or not step.looks else likeness.PATIENCE
        return self._known.setdefault((*step.counted, str(rise)), self._next()), patience

    def tells(self, step: Step) -> bool:
        """Whether its result had not been told before."""
        new = self._told.isdisjoint(step.news)
        self._told.update(step.news)
        return new

    def _next(self) -> int:
        return len(self._known) + 1


class _Watch:
    """The rounds since the user last spoke, one by one."""

    def __init__(self) -> None:
        self._rounds: list[Round] = []
        self._turns, self._counts = _Turns(), _Turns()
        self._failures = self._idle = self._alike = 0

    def take(self, made: Round) -> tuple[int, ev.LoopDetected | None]:
        """How often the pattern that the run is in has come by now, and the loop that it is from `REPEATS` on."""
        self._rounds.append(made)
        self._failures = self._failures + 1 if made.failed else 0
        self._idle = 0 if made.news else self._idle + (made.counting or made.patience == 1)
        # The first of them was news.
        self._alike = max(self._alike, 1) + 1 if made.long and not made.news else 0
        rounds = self._rounds
        best, length = max((self._patient(times, steps), -steps) for times, steps in self._turns.take(made.calls))
        for times, steps in self._counts.take(made.counts):
            # The first of a count is not known to be one: it is the one before.
            if times > 1 and any(one.counting for one in rounds[-steps:]) and self._patient(times + 1, steps) > best:
                best, length = self._patient(times + 1, steps), -steps
        tired = max(self._failures * REPEATS // FAILURES, self._idle * REPEATS // IDLE, self._alike * REPEATS // ALIKE)
        if max(best, tired) < REPEATS:
            return max(best, tired), None
        if best < tired:
            return tired, _loop("no_progress", rounds[-max(self._failures, self._idle, self._alike) :])
        return best, _loop(_kind(rounds[length:]), rounds[length:])

    def _patient(self, times: int, length: int) -> int:
        return times // max(made.patience for made in self._rounds[-length:])


class _Turns:
    """What came in turn, in one reading of the rounds. A pattern comes in turn (the last rounds are those of a while ago), or its steps come
    in any order (nothing is new any more).
    """

    def __init__(self) -> None:
        self._said: list[tuple[int, ...]] = []
        self._same = [0] * (LONGEST + 1)
        self._seen: set[int] = set()
        self._stale = 0

    def take(self, calls: tuple[int, ...]) -> list[tuple[int, int]]:
        """How often each pattern has come that the last round may belong to, and of how many rounds it is."""
        self._said.append(calls)
        at = len(self._said) - 1
        found = [(1, 1)]
        for period in range(1, min(LONGEST, at) + 1):
            self._same[period] = self._same[period] + 1 if self._said[at - period] == calls else 0
            if (times := 1 + self._same[period] // period) > 1:
                found.append((times, period))
        self._stale = self._stale + 1 if self._seen.issuperset(calls) else 0
        if self._stale:
            said = self._said[self._stirred(at) :]
            steps = min(len(set(said)), len({call for calls in said for call in calls}))
            found.append((len(said) // max(1, steps), len(said)))
        self._seen.update(calls)
        return found

    def _stirred(self, at: int) -> int:
        """Where the steps that are not new any more began: the rounds from there on hold nothing else."""
        first = at - self._stale + 1
        steps = {call for calls in self._said[first:] for call in calls}
        while first and steps.issuperset(self._said[first - 1]):
            first -= 1
        return first


def _kind(pattern: Sequence[Round]) -> ev.LoopKind:
    if all(made.calls == (REFUSED,) for made in pattern):
        return "refused"
    if any(made.loosely or made.counting for made in pattern):
        return "no_progress"
    return "repeated" if len({made.calls for made in pattern}) == 1 else "cycle"


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
        self._watch, self._steps, self._times = _Watch(), _Steps(), 0
        self.loop = None
        self._said: Message | None = None
        self._results: dict[str, Message] = {}

    def _take(self, state: RunState, message: Message) -> None:
        if message.role == "tool":
            self._results[message.call_id or ""] = message
            if self._said is not None and all(call.id in self._results for call in self._said.tool_calls):
                self._finish(_round(state, self._steps, self._said, self._results), message.id)
                self._said = None
        elif message.role == "user":
            self._begin()
        elif message.id not in state.rejected:
            if message.tool_calls:
                self._said, self._results = message, {}
            elif message.stop == "pause":
                native = "" if message.native is None else bytes(message.native.items).decode()
                said = ("", message.content.strip(), native)
                number, _ = self._steps.number(Step(same=said, news=(said, said)))
                self._finish(Round(calls=(number,), counts=(number,), tools=()), message.id)

    def _finish(self, made: Round, end: str) -> None:
        times, self.loop = self._watch.take(made)
        if self._times < WARNED <= times and made.tools:
            self.told[end] = NOTE
        self._times = times


def _followed(state: RunState) -> _Followed:
    """The run so far. It grows with the state, which holds it; a draft that is rejected only now may have been counted, so that begins it again."""
    watched = state.watched
    if not isinstance(watched, _Followed) or watched.rejected != len(state.rejected):
        watched = state.watched = _Followed()
        watched.rejected = len(state.rejected)
    watched.follow(state)
    return watched


def _round(state: RunState, steps: _Steps, said: Message, results: dict[str, Message]) -> Round:
    calls: set[int] = set()
    counts: set[int] = set()
    patience, loosely, counting, failed, news, long = 1, False, False, True, False, True
    for call in said.tool_calls:
        result, spec = results[call.id], state.agent.tool(call.name)
        failed = failed and result.is_error
        if _refused(state, call, result):
            calls.add(REFUSED)
            counts.add(REFUSED)
            long = False
            continue
        step = likeness.read(call, spec, result.is_error, result.content)
        number, known_loosely = steps.number(step)
        count, slack = steps.count(step, number)
        calls.add(number)
        counts.add(count)
        patience = max(patience, step.patience, slack)
        loosely, counting = loosely or known_loosely, counting or slack > 0
        news = steps.tells(step) or news
        long = long and step.long
    return Round(
        calls=tuple(sorted(calls)),
        counts=tuple(sorted(counts)),
        tools=tuple(sorted({call.name for call in said.tool_calls})),
        patience=patience,
        loosely=loosely,
        counting=counting,
        failed=failed,
        news=news,
        long=long,
    )


def _refused(state: RunState, call: ToolCall, result: Message) -> bool:
    """Whether the call was not run: there is no such tool, its arguments do not fit, or somebody or some rule denied it."""
    if not result.is_error:
        return False
    spec = state.agent.tool(call.name)
    return (
        spec is None or call.id in state.refused or structured.read(call.arguments or "{}", spec.schema)[1] is not None
    )
