"""How capable a model a run needs: a transparent score of its question, which says nothing where it does not know, and what raises it later.

The score is a weighted sum of features that anybody can count. A keyword table is a poor judge of meaning, so it decides
the clear cases only, and never that a question is cheap unless it can read it: see ops/decisions/0012.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from app.agent import tokens
from app.domain.fold import RunState
from app.domain.tiers import TIERS, Tier, TierDecision, TierRoute, higher

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CODE = re.compile(
    r"```|^\s*(?:def |class |import |from \w+ import|func |fn |public |#include|SELECT .+ FROM )|[;{}]\s*$", re.M
)
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)])\s+\S", re.M)
_REASONING = re.compile(
    r"\b(?:prove|proof|derive|trade-?offs?|architect(?:ure)?|design|refactor|debug|diagnose|root cause|optimi[sz]e|analy[sz]e"
    r"|critique|evaluate|strategy|strategic|step[- ]by[- ]step|why|compare|plan|implement|algorithm|complexity|race condition"
    r"|deadlock|migrate|migration|invariants?|hypothes[ie]s|argue|reconcile|forecast)\b",
    re.I,
)
_CONDITIONS = re.compile(
    r"\b(?:must|without|unless|except|at least|at most|exactly|ensure|while keeping|given that|assuming|constraints?"
    r"|consider|justify|both|each of)\b",
    re.I,
)
_PLAIN = re.compile(
    r"^(?:(?:hi|hello|hey|thanks|thank you|good (?:morning|evening)|bye)\b.{0,30}$|(?:please )?(?:(?:can|could) you )?"
    r"(?:what(?:'s| is| are| was)|who|when|where|which|how (?:many|much|old|far|tall|long)|define|spell|translate|convert"
    r"|capitali[sz]e|list|name|repeat|say|tell me the|is|are|does|do|was)\b)",
    re.I,
)


class Asked(msgspec.Struct, frozen=True):
    """What the score looks at: the text that the run began with, and tokens of the conversation before it."""

    text: str
    history: int = 0


class Feature(msgspec.Struct, frozen=True):
    """One thing that is counted. `measure` gives 0 to 1."""

    name: str
    weight: float
    measure: Callable[[Asked], float]


class Verdict(msgspec.Struct, frozen=True):
    """What the score says. `tier` None: nothing. `reasons`: the features that were there, or why it says nothing."""

    tier: Tier | None
    score: float
    reasons: tuple[str, ...]


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _plain(asked: Asked) -> float:
    """A short question of one sentence that begins as those do that are looked up."""
    short = _words(asked.text) <= 16 and asked.text.strip().count("\n") == 0
    return float(short and _PLAIN.match(asked.text.strip()) is not None)


FEATURES: tuple[Feature, ...] = (
    Feature("plain_question", -0.20, _plain),
    Feature("length", 0.35, lambda asked: min(1.0, max(0, _words(asked.text) - 16) / 120)),
    Feature(
        "reasoning_words", 0.40, lambda asked: min(1.0, len(set(map(str.lower, _REASONING.findall(asked.text)))) / 3)
    ),
    Feature("conditions", 0.20, lambda asked: min(1.0, len(_CONDITIONS.findall(asked.text)) / 3)),
    Feature("code", 0.20, lambda asked: float(_CODE.search(asked.text) is not None)),
    Feature("several_tasks", 0.20, lambda asked: min(1.0, _tasks(asked.text) / 3)),
    Feature("long_history", 0.15, lambda asked: min(1.0, asked.history / 20_000)),
)
"""A change of a weight changes where questions go: measure it with `python -m ops.complexity`."""


def _tasks(text: str) -> int:
    """Items of a list, or questions, beyond the first."""
    return max(0, max(len(_ITEM.findall(text)), text.count("?")) - 1)


def score(asked: Asked, route: TierRoute) -> Verdict:
    """What the features say of a question, by the thresholds of that route."""
    total, found = 0.0, []
    for feature in FEATURES:
        part = feature.weight * feature.measure(asked)
        if part:
            total += part
            found.append(feature.name)
    total = round(total, 4)
    if total >= route.premium_from:
        return Verdict("premium", total, tuple(found))
    if total < route.cheap_below:
        unknown = tuple(_unreadable(asked))
        return Verdict(None, total, unknown) if unknown else Verdict("cheap", total, tuple(found))
    return Verdict(None, total, ("between_thresholds",))


def _unreadable(asked: Asked) -> Iterator[str]:
    """Why a low score means nothing: its words are of no language that the table knows, or speak of what was said before."""
    letters = [character for character in asked.text if character.isalpha()]
    if sum(not character.isascii() for character in letters) * 10 > len(letters):
        yield "unknown_language"
    if not letters:
        yield "no_words"
    if asked.history and _words(asked.text) <= 6:
        yield "refers_back"


class Signal(msgspec.Struct, frozen=True):
    """Something in a run that asks for more capable models. `steps`: how many tiers up from the first decision."""

    name: str
    steps: Callable[[RunState, int], int]


def _tool_errors(state: RunState) -> int:
    return sum(message.is_error for message in state.messages)


def _rejected(state: RunState) -> int:
    return sum(message.id in state.rejected for message in state.messages)


LONG_CONTEXT = 30_000
"""Tokens of a request, by estimate, from which a run is not left to the lowest tier."""

SIGNALS: tuple[Signal, ...] = (
    Signal("invalid_output", lambda state, _: _rejected(state)),
    Signal("tool_errors", lambda state, _: 2 if (errors := _tool_errors(state)) >= 5 else int(errors >= 2)),
    Signal("many_steps", lambda state, _: int(state.iterations >= 6)),
    Signal("long_context", lambda state, size: int(size >= LONG_CONTEXT)),
)


def raised(state: RunState, size: int) -> TierDecision | None:
    """The run's decision, a tier or more up where it needs that by now; None: as it was. `size`: tokens of the next request.

    A run never goes down: not even where a signal is gone.
    """
    first, last = state.first_tier, state.tier
    assert first is not None
    assert last is not None
    signals = [(signal.name, steps) for signal in SIGNALS if (steps := signal.steps(state, size))]
    tier = higher(first.tier, sum(steps for _, steps in signals))
    if TIERS.index(tier) <= TIERS.index(last.tier):
        return None
    return TierDecision(
        route=first.route, tier=tier, by="raised", score=first.score, reasons=tuple(name for name, _ in signals)
    )


def asked_of(state: RunState) -> Asked:
    """What the run began with."""
    return Asked(state.messages[0].content, sum(map(tokens.message, state.history)))
