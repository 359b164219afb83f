"""Which tier a run's model calls go to: decided once, with the question; raised by what happens; the same after a crash."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import msgspec

from app.agent import complexity, tokens
from app.domain.errors import BudgetExhausted, ProviderError
from app.domain.fold import RunState
from app.domain.messages import Message
from app.domain.models import Attempt, Completed, ModelRequest, Provider, Recorder
from app.domain.observers import RunObserver
from app.domain.tiers import TIERS, Tier, TierDecision, TierRoute
from app.runs.stop import Stop

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "You sort questions by how capable a language model must be to answer them well. Answer with one word: "
    "cheap (a lookup, a greeting, a short rewording), mid (ordinary work of a few steps), or premium (long chains of "
    "reasoning, difficult code or mathematics, several constraints at once). Do not answer the question itself."
)
LONGEST_QUESTION = 4_000
"""Characters that the classifier is shown: the first half of them and the last."""
ANSWER_TOKENS = 16
"""The least that every API takes."""
_ANSWER = re.compile(r"\W*(cheap|mid|premium)\W*", re.I)


class Effects(msgspec.Struct, frozen=True):
    """How a run's model calls are made: what stops them, what records their attempts, and who writes those down."""

    stop: Stop
    recorder: Callable[[], Recorder]
    used: Callable[[Sequence[Attempt], ModelRequest], None]


class Tiering:
    """Chooses for the runs of a process. A route without tiers costs a look into a dict."""

    def __init__(self, *, routes: Mapping[str, TierRoute], provider: Provider, observer: RunObserver) -> None:
        self._routes = dict(routes)
        self._provider = provider
        self._observer = observer

    async def settle(self, request: ModelRequest, state: RunState, effects: Effects) -> ModelRequest:
        """The request for the route of the run's tier. What asking a classifier used is written down. Raises `RunStopped`."""
        route = self._routes.get(request.route)
        if route is None:
            return request
        before = state.tier
        if before is None:
            decision = await self._first(request, route, state, effects)
        else:
            decision = complexity.raised(state, _size(request)) or before
        if decision != before:
            state.decided(decision)
            self._observer.tiered(decision)
        return msgspec.structs.replace(request, route=route.routes[decision.tier], tier=decision)

    async def _first(self, request: ModelRequest, route: TierRoute, state: RunState, effects: Effects) -> TierDecision:
        name = request.route
        verdict = complexity.score(complexity.asked_of(state), route)
        if verdict.tier is not None:
            return TierDecision(route=name, tier=verdict.tier, by="score", score=verdict.score, reasons=verdict.reasons)
        decision = TierDecision(
            route=name, tier=route.default, by="default", score=verdict.score, reasons=verdict.reasons
        )
        if route.classifier is None:
            return decision
        question, recorder = _question(route.classifier, state, request), effects.recorder()
        try:
            async with effects.stop:
                said = await self._classified(question, recorder, route.classifier_timeout)
            if said is not None:
                decision = msgspec.structs.replace(decision, tier=said, by="classifier")
            question = msgspec.structs.replace(question, tier=decision)
        finally:
            effects.used(recorder.attempts, question)
        return decision

    async def _classified(self, question: ModelRequest, recorder: Recorder, seconds: float) -> Tier | None:
        """What the classifier says; None where it says nothing, says something else, or fails."""
        answer = ""
        try:
            async with asyncio.timeout(seconds), aclosing(self._provider.stream(question, recorder)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, Completed):
                        answer = chunk.content
        except (ProviderError, BudgetExhausted, TimeoutError) as error:
            log.warning("tier_classifier_failed", extra={"route": question.route, "reason": type(error).__name__})
            return None
        said = _ANSWER.fullmatch(answer)
        return None if said is None else next(tier for tier in TIERS if tier == said[1].lower())


def _question(route: str, state: RunState, request: ModelRequest) -> ModelRequest:
    text = state.read(state.messages[0]).content
    if len(text) > LONGEST_QUESTION:
        half = LONGEST_QUESTION // 2
        text = f"{text[:half]}\n[…]\n{text[-half:]}"
    asked = f"Sort this question:\n<question>\n{text}\n</question>"
    return ModelRequest(
        route=route,
        system=INSTRUCTIONS,
        messages=(Message(id=f"tier-{state.messages[0].id}", role="user", content=asked),),
        max_output_tokens=ANSWER_TOKENS,
        affinity=request.affinity,
        purpose="classifier",
    )


def _size(request: ModelRequest) -> int:
    """Tokens of the request, by estimate."""
    fixed = tokens.fixed(request.system, request.tools, request.output_schema)
    return fixed + sum(map(tokens.message, request.messages))
