"""No attempt is made before the ledger has it: the router waits for it, sends what it allows, and nothing that it refuses."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from decimal import Decimal
from typing import Literal

import msgspec
import pytest

from app.domain.errors import BudgetExhausted, ProviderError
from app.domain.models import Attempt, ModelRequest, Recorder
from app.llm.router import Route
from tests.llm.messages import REQUEST
from tests.llm.targets import DONE, HELLO, FakeTarget, Gate, fault, router_of
from tests.llm.wire import collect
from tests.waiting import until


class Opener:
    """Opens when `gate` is set, and refuses the providers of `poor`."""

    def __init__(self, *poor: str) -> None:
        self.poor = poor
        self.gate = asyncio.Event()
        self.gate.set()
        self.refused = asyncio.Event()
        self.opened: list[str] = []
        self.spent: list[Decimal] = []

    async def open(self, attempt: Attempt, request: ModelRequest, spent: Decimal) -> ModelRequest:
        await self.gate.wait()
        if attempt.provider in self.poor:
            self.refused.set()
            raise BudgetExhausted("user")
        self.opened.append(attempt.provider)
        self.spent.append(spent)
        return msgspec.structs.replace(request, max_output_tokens=7)


class Listening(FakeTarget):
    """Keeps what it was sent."""

    def stream(self, request: ModelRequest, attempt: Attempt):  # type: ignore[no-untyped-def]
        self.sent = request
        return super().stream(request, attempt)


async def test_the_target_is_asked_after_the_ledger_and_as_it_allows() -> None:
    opener, target = Opener(), Listening("a", *HELLO)
    opener.gate.clear()
    asking = asyncio.create_task(collect(router_of(Route(targets=(target,))).stream(REQUEST, Recorder(opener))))
    await until(lambda: len(asyncio.all_tasks()) > 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert target.asked == 0
    opener.gate.set()
    await asking
    assert target.sent == msgspec.structs.replace(REQUEST, max_output_tokens=7)


async def test_what_the_ledger_takes_is_not_the_targets_time() -> None:
    opener, target = Opener(), FakeTarget("a", *HELLO)
    opener.gate.clear()
    recorder = Recorder(opener)
    began = time.monotonic()
    asking = asyncio.create_task(
        collect(router_of(Route(targets=(target,), timeout=0.05, first_token_timeout=0.04)).stream(REQUEST, recorder))
    )
    await until(lambda: time.monotonic() - began > 0.1)
    opener.gate.set()
    assert (await asking)[-1] == DONE
    assert recorder.attempts[0].started - began > 0.1


async def test_a_refusal_ends_the_call_and_says_nothing_about_the_target() -> None:
    gate, recorder = Gate(), Recorder(Opener("b"))
    targets = FakeTarget("a", fault("auth")), FakeTarget("b", *HELLO), FakeTarget("c", *HELLO)
    with pytest.raises(BudgetExhausted):
        await collect(router_of(Route(targets=targets), gate).stream(REQUEST, recorder))
    assert [(attempt.provider, attempt.outcome) for attempt in recorder.attempts] == [("a", "auth")]
    assert [target.asked for target in targets] == [1, 0, 0]
    assert gate.told == [("a", "opens"), ("b", "abandoned")]
    assert not any(gate.out.values())


@pytest.mark.parametrize("first", ["answers", "fails"])
async def test_a_hedge_that_is_refused_leaves_the_first_alone(first: Literal["answers", "fails"]) -> None:
    go, opener = asyncio.Event(), Opener("b")
    slow = FakeTarget("a", go, *(HELLO if first == "answers" else [fault("bad_request")]))
    other = FakeTarget("b", *HELLO)
    router = router_of(Route(targets=(slow, other), hedge_after=0.001))
    go.set()
    for _ in range(19):  # until a call may be hedged
        with suppress(ProviderError):
            await collect(router.stream(REQUEST, Recorder(Opener())))
    go.clear()
    recorder = Recorder(opener)
    asking = asyncio.create_task(collect(router.stream(REQUEST, recorder)))
    await opener.refused.wait()
    go.set()
    if first == "answers":
        assert (await asking)[-1] == DONE
    else:
        with pytest.raises(ProviderError, match="no"):
            await asking
    assert other.asked == 0
    assert [attempt.provider for attempt in recorder.attempts] == ["a"]


async def test_who_leaves_while_the_ledger_is_asked_made_an_attempt_that_cost_nothing() -> None:
    """It may have been written down: so it is settled."""
    opener, target = Opener(), FakeTarget("a", *HELLO)
    opener.gate.clear()
    recorder = Recorder(opener)
    asking = asyncio.create_task(collect(router_of(Route(targets=(target,))).stream(REQUEST, recorder)))
    await until(lambda: recorder.attempts)
    asking.cancel()
    await asyncio.wait([asking])
    (attempt,) = recorder.attempts
    assert (attempt.outcome, attempt.basis) == ("cancelled", "provider")
    assert (attempt.cost_usd, target.asked) == (Decimal(0), 0)


async def test_later_attempts_know_what_earlier_ones_cost() -> None:
    class Dear(FakeTarget):
        async def stream(self, request: ModelRequest, attempt: Attempt):  # type: ignore[no-untyped-def]
            attempt.cost_usd = Decimal("0.25")
            async for chunk in super().stream(request, attempt):
                yield chunk

    opener = Opener()
    await collect(
        router_of(Route(targets=(Dear("a", fault("auth")), FakeTarget("b", *HELLO)))).stream(REQUEST, Recorder(opener))
    )
    assert opener.spent == [0, Decimal("0.25")]
