"""The breaker of one target against a model of it, over random walks."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from app.domain.breakers import BreakerState
from app.llm.breaker import Breaker, Call

LIMIT, WINDOW = 3, 30.0


class Asked:
    """A call as the model knows it: after how many openings and closings it began, and whether as a probe."""

    def __init__(self, call: Call, began: int, probe: bool) -> None:
        self.call = call
        self.began = began
        self.probe = probe


class AgainstTheModel(RuleBasedStateMachine):
    """What the sentences about a breaker say, kept as plain facts: when it may be asked, who has the place, what failed in a row."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(limit=LIMIT, window=WINDOW)
        self.now = 0.0
        self.closed = True
        self.turns = 0
        self.not_before = 0.0
        self.in_a_row = 0
        self.holder: Asked | None = None
        self.held_until = 0.0

    def open_for(self, seconds: float) -> None:
        self.closed, self.turns, self.not_before, self.holder = False, self.turns + 1, self.now + seconds, None

    def close(self) -> None:
        self.closed, self.turns, self.in_a_row, self.holder = True, self.turns + 1, 0, None

    @rule(seconds=st.sampled_from([0.5, 10.0, 29.5, 30.0, 61.0, 700.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=calls)
    def admit(self) -> object:
        self.breaker, call = self.breaker.admit(self.now)
        taken = self.holder is not None and self.now < self.held_until
        assert (call is not None) == (self.closed or (self.now >= self.not_before and not taken))
        if call is None:
            return multiple()
        asked = Asked(call, self.turns, probe=not self.closed)
        assert (call.probe > 0) == asked.probe
        if asked.probe:
            self.holder, self.held_until = asked, self.now + WINDOW
        return asked

    @rule(asked=calls)
    def succeed(self, asked: Asked) -> None:
        self.breaker = self.breaker.succeeded(asked.call)
        if asked.began == self.turns:
            self.in_a_row = 0
            if asked.probe:
                self.close()

    @rule(
        asked=calls,
        effect=st.sampled_from(["counts", "counts", "counts", "opens"]),
        hint=st.sampled_from([None, 0.0, 5.0, 45.0, 1e9]),
    )
    def fail(self, asked: Asked, effect: str, hint: float | None) -> None:
        self.breaker = self.breaker.failed(asked.call, effect, hint, self.now)  # type: ignore[arg-type]  # one of the two
        if asked.began != self.turns:
            return
        self.in_a_row += 1
        if asked.probe or effect == "opens" or self.in_a_row == LIMIT:
            self.open_for(max(WINDOW, min(600.0, hint or 0.0)))

    @rule(asked=calls)
    def abandon(self, asked: Asked) -> None:
        self.breaker = self.breaker.abandoned(asked.call)
        if asked is self.holder:
            self.holder = None

    @rule(seconds=st.sampled_from([0.0, 10.0, 45.0]))
    def opened_elsewhere(self, seconds: float) -> None:
        self.breaker = self.breaker.told(seconds, self.now)
        if not self.closed and self.now < self.not_before:
            self.not_before = max(self.not_before, self.now + seconds)
        elif self.closed or seconds:
            self.open_for(seconds)

    @rule()
    def closed_elsewhere(self) -> None:
        self.breaker = self.breaker.told(None, self.now)
        if not self.closed:
            self.close()

    @invariant()
    def it_says_what_it_is(self) -> None:
        state = self.breaker.state(self.now)
        if self.closed:
            assert state == BreakerState("closed")
        elif self.now < self.not_before:
            assert state == BreakerState("open", self.not_before - self.now)
        else:
            assert state == BreakerState("half_open")


AgainstTheModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAgainstTheModel = AgainstTheModel.TestCase
