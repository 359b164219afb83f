"""The course of one model call: who is asked next, and after which pause. Pure but for the randomness that it is given."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from app.domain.errors import ProviderError
from app.domain.models import Target
from app.llm.taxonomy import POLICIES, Policy

MAX_RETRIES = 2
"""How often one target is asked again in one call."""

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 8.0
"""Seconds. The n-th retry comes after a random part of FIRST_BACKOFF doubled n - 1 times, never more than LONGEST_BACKOFF."""


class Alternative(msgspec.Struct, frozen=True):
    """A target that has a place in a route together with others; the first of them is it as often as its weight says."""

    target: Target
    weight: float


def order(positions: Sequence[Target | tuple[Alternative, ...]], affinity: str) -> list[Target]:
    """All targets in the order they are asked by a request of that affinity: always the same.

    Each alternative draws a number from a hash of the affinity and its own name (weighted rendezvous hashing): a changed
    weight, or an alternative more or less, moves as few of the sessions as possible.
    """
    targets: list[Target] = []
    for position in positions:
        if isinstance(position, tuple):
            targets += [a.target for a in sorted(position, key=lambda a: _draw(a, affinity))]
        else:
            targets.append(position)
    return targets


def _draw(alternative: Alternative, affinity: str) -> float:
    digest = hashlib.sha256(f"{affinity}\n{name_of(alternative.target)}".encode(errors="replace")).digest()
    return -math.log((int.from_bytes(digest[:7], "big") + 1) / 2**56) / alternative.weight


def name_of(target: Target) -> str:
    """The target as settings write it."""
    return f"{target.provider}/{target.model}"


class Course:
    """`target` is asked now, None: nobody is left. `failures` are those so far, in order.

    `windows`: tokens that targets can read, by name, as far as it is known.
    """

    def __init__(self, *, targets: Iterable[Target], windows: Mapping[str, int], random: Callable[[], float]) -> None:
        self._later = deque(targets)
        self._windows = windows
        self._random = random
        self._retries = 0
        self.failures: list[ProviderError] = []
        self.target: Target | None = None
        self._advance()

    def failed(self, failure: ProviderError, left: float) -> float | None:
        """Take in how the current target failed, `left` seconds before the call's time is over.

        The seconds to wait before `target`, the same or the next, is asked. None: nobody else may be, the failure is the call's.
        """
        policy = self.note(failure)
        pause = self._pause(failure, policy, left)
        if pause is not None:
            self._retries += 1
            return pause
        if policy.next == "nobody" or (policy.next == "larger" and not self._later):
            return None
        if left <= 0:
            self._later.clear()
        self._advance()
        return 0.0

    def note(self, failure: ProviderError) -> Policy:
        """Take in a failure without going on: whoever is of no use after it is not asked later. What is to be done about it."""
        policy = POLICIES[failure.kind]
        self.failures.append(failure)
        assert self.target is not None
        if policy.next == "other_account":
            account = failure.provider or self.target.provider
            self._later = deque(target for target in self._later if target.provider != account)
        elif policy.next == "larger":
            window = self._windows.get(f"{failure.provider}/{failure.model}", math.inf)
            self._later = deque(t for t in self._later if self._windows.get(name_of(t), 0) > window)
        return policy

    def skip(self) -> None:
        """The current target is not asked, for its breaker is open. That is a failure of its own unless it has failed before."""
        assert self.target is not None
        if not self._retries:
            provider, model = self.target.provider, self.target.model
            why = "not asked: it failed too often lately"
            self.failures.append(ProviderError("circuit_open", why, provider=provider, model=model))
        self._advance()

    def beside(self) -> Target | None:
        """Take out who is asked beside the current target: the next, or the same where no other is left."""
        return self._later.popleft() if self._later else self.target

    def put_back(self, target: Target) -> None:
        """Who was taken out is the next again."""
        if target is not self.target:
            self._later.appendleft(target)

    def turn_to(self, target: Target) -> None:
        """Who was taken out is the current target."""
        if target is not self.target:
            self.target, self._retries = target, 0

    def _advance(self) -> None:
        self.target = self._later.popleft() if self._later else None
        self._retries = 0

    def _pause(self, failure: ProviderError, policy: Policy, left: float) -> float | None:
        """Seconds until the same target is asked again; None: it is not."""
        retry = policy.retry
        if failure.should_retry is not None and failure.kind != "quota":
            retry = "yes" if failure.should_retry else "no"
        if retry == "no" or (retry == "last" and self._later) or self._retries >= MAX_RETRIES:
            return None
        hint = failure.retry_after or 0.0
        if self._later and hint > policy.patience:
            return None
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**self._retries)
        pause = max(hint, self._random() * longest)
        return pause if pause < left else None
