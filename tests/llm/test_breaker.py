"""A process's breakers, with the other processes hidden behind a board that the test holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from app.domain.breakers import BreakerNews, BreakerState
from app.llm.breaker import LONGEST_OPEN, Breakers, Permit
from tests.llm.board import Board, sharing
from tests.waiting import until

WINDOW = 30.0
P = ("openai", "gpt-x")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def names(breakers: Breakers) -> str:
    return breakers.state(*P).name


async def admitted(breakers: Breakers) -> Permit:
    permit = await breakers.admit(*P)
    assert permit is not None
    return permit


async def opened(clock: Clock, board: Board | None = None) -> Breakers:
    breakers = Breakers(failures=5, open_seconds=WINDOW, targets=[P], board=board, clock=clock)
    call = await admitted(breakers)
    call.failed("opens", None)
    assert names(breakers) == "open"
    return breakers


async def test_five_failures_in_a_row_open_it_and_a_success_starts_anew() -> None:
    breakers = Breakers(targets=[P], clock=Clock())
    for ends in ("ffff", "s", "ffff", "a", "f"):
        for end in ends:
            call = await admitted(breakers)
            if end == "f":
                call.failed("counts", None)
            elif end == "s":
                call.succeeded()
            else:
                call.abandoned()
    assert breakers.state(*P) == BreakerState("open", 30.0)
    assert not await breakers.admit(*P)
    assert await breakers.admit("openai", "another")
    assert breakers.state("anthropic", "never-asked") == BreakerState("closed")


@pytest.mark.parametrize(("hint", "seconds"), [(None, 30.0), (3.0, 30.0), (45.0, 45.0), (86_400.0, LONGEST_OPEN)])
async def test_it_is_open_as_long_as_the_provider_says(hint: float | None, seconds: float) -> None:
    breakers = Breakers(clock=Clock())
    call = await admitted(breakers)
    call.failed("opens", hint)
    assert breakers.state(*P) == BreakerState("open", seconds)


async def test_a_probe_decides_whatever_older_calls_come_to() -> None:
    clock = Clock()
    breakers = Breakers(failures=2, open_seconds=WINDOW, clock=clock)
    first, second, *old = [await admitted(breakers) for _ in range(7)]
    first.failed("counts", None)
    assert names(breakers) == "closed"
    second.failed("counts", None)
    assert names(breakers) == "open"
    old[0].succeeded()
    assert names(breakers) == "open"
    clock.now += WINDOW
    assert names(breakers) == "half_open"
    probe = await admitted(breakers)
    assert not await breakers.admit(*P)
    old[1].succeeded()
    old[2].failed("counts", None)
    old[3].abandoned()
    assert names(breakers) == "half_open"
    assert not await breakers.admit(*P)
    probe.succeeded()
    assert names(breakers) == "closed"
    (await admitted(breakers)).failed("counts", None)
    old[4].failed("counts", None)
    assert names(breakers) == "closed"


async def test_a_probe_without_a_verdict_gives_its_place_back_and_one_that_fails_does_not() -> None:
    clock = Clock()
    breakers = await opened(clock)
    clock.now += WINDOW
    call = await admitted(breakers)
    assert not await breakers.admit(*P)
    call.abandoned()
    call = await admitted(breakers)
    call.failed("counts", None)
    assert breakers.state(*P) == BreakerState("open", WINDOW)
    clock.now += WINDOW
    await admitted(breakers)  # and is never heard of again
    clock.now += WINDOW - 1
    assert not await breakers.admit(*P)
    clock.now += 1
    call = await admitted(breakers)


async def test_a_healthy_target_costs_no_call_to_the_others() -> None:
    board = Board()
    breakers = Breakers(targets=[P], board=board, clock=Clock())
    async with sharing(breakers):
        for _ in range(100):
            coroutine = breakers.admit(*P)
            with pytest.raises(StopIteration) as ended:  # it ends without waiting once
                coroutine.send(None)
            call = ended.value.value
            call.succeeded()
            call.failed("counts", None)
            call.succeeded()
    assert board.asked == 0


async def test_an_opening_and_a_closing_are_told_once_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.llm.breaker")
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with sharing(breakers):
        await until(lambda: board.told == [BreakerNews(*P, WINDOW)])
        clock.now += WINDOW
        call = await admitted(breakers)
        call.succeeded()
        await until(lambda: len(board.told) == 2)
        assert board.told[1] == BreakerNews(*P, None)
        assert board.said is not None
        board.said(BreakerNews(*P, 12.0))
        assert breakers.state(*P) == BreakerState("open", 12.0)
        board.said(BreakerNews("openai", "of another route", 12.0))
        assert breakers.targets == [P]
    assert len(board.told) == 2
    said = [(record.message, record.__dict__["by"], record.__dict__.get("seconds")) for record in caplog.records]
    assert said == [
        ("breaker_opened", "here", 30.0),
        ("breaker_closed", "here", None),
        ("breaker_opened", "elsewhere", 12.0),
    ]
    assert {(record.__dict__["provider"], record.__dict__["model"]) for record in caplog.records} == {P}


async def test_the_place_of_another_process_is_respected_and_ours_given_back() -> None:
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with sharing(breakers):
        clock.now += WINDOW
        board.places[P] = "another's"
        assert not await breakers.admit(*P)
        assert board.places == {P: "another's"}
        del board.places[P]
        call = await admitted(breakers)
        call.abandoned()
        await until(lambda: not board.places)
        call = await admitted(breakers)
        call.failed("counts", None)
        assert P in board.places


async def test_who_is_cancelled_on_the_way_to_a_place_leaves_none_taken() -> None:
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with sharing(breakers):
        clock.now += WINDOW
        board.slow = asyncio.Event()
        asking = asyncio.create_task(breakers.admit(*P))
        await until(lambda: board.waiting)
        assert not await breakers.admit(*P)
        asking.cancel()
        await asyncio.wait([asking])
        board.slow = None
        await admitted(breakers)


@pytest.mark.parametrize(("news", "answer"), [(None, True), (20.0, False)])
async def test_another_process_decides_while_a_place_is_asked_for(news: float | None, answer: bool) -> None:
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with sharing(breakers):
        await until(lambda: board.told)
        clock.now += WINDOW
        board.slow = asyncio.Event()
        asking = asyncio.create_task(breakers.admit(*P))
        await until(lambda: board.waiting)
        assert board.said is not None
        board.said(BreakerNews(*P, news))
        board.slow.set()
        assert (await asking is not None) is answer
        await until(lambda: not board.places)


async def test_without_the_board_each_goes_by_itself_and_tells_later() -> None:
    clock, board = Clock(), Board()
    board.there.clear()
    breakers = await opened(clock, board)
    async with sharing(breakers):
        clock.now += 10
        board.there.set()
        await until(lambda: board.told == [BreakerNews(*P, 20.0)])
        board.there.clear()
        clock.now += 20
        call = await admitted(breakers)
        assert not await breakers.admit(*P)
        call.succeeded()
        assert names(breakers) == "closed"
        assert board.said is not None
        board.said(BreakerNews(*P, 5.0))
        assert names(breakers) == "closed"  # what is untold here is younger
        board.there.set()
        await until(lambda: board.known[P].open_for is None)


async def test_who_listens_again_learns_what_was_missed() -> None:
    clock, board = Clock(), Board()
    board.known[P] = BreakerNews(*P, 12.0)
    breakers = Breakers(targets=[P], board=board, clock=clock)
    async with sharing(breakers):
        assert breakers.state(*P) == BreakerState("open", 12.0)
        await until(lambda: board.again)
        assert board.again is not None
        board.known[P] = BreakerNews(*P, None)
        assert await board.again()
        assert names(breakers) == "closed"
        board.known[P] = BreakerNews(*P, 0.0)
        assert await board.again()
        assert names(breakers) == "half_open"
        board.known.clear()  # the board lost what it knew
        assert await board.again()
        await until(lambda: board.told == [BreakerNews(*P, 0.0)])
        board.there.clear()
        assert not await board.again()


async def test_news_that_come_while_the_board_is_read_are_younger() -> None:
    board = Board()
    breakers = Breakers(targets=[P], board=board, clock=Clock())
    async with sharing(breakers):
        await until(lambda: board.again)
        assert board.again is not None
        assert board.said is not None
        board.said(BreakerNews(*P, 20.0))
        board.known[P] = BreakerNews(*P, None)
        board.slow = asyncio.Event()
        looking = asyncio.ensure_future(board.again())
        await until(lambda: board.waiting)
        board.said(BreakerNews(*P, None))
        board.said(BreakerNews(*P, 25.0))
        board.slow.set()
        assert await looking
        assert breakers.state(*P) == BreakerState("open", 25.0)


async def test_of_contrary_news_the_last_in_the_boards_order_holds() -> None:
    board = Board()
    breakers = await opened(Clock(), board)
    board.mute = True
    async with sharing(breakers):
        await until(lambda: board.told)
        assert board.said is not None
        board.said(BreakerNews(*P, None))  # told before ours, which the others hear after it
        assert names(breakers) == "open"
        board.said(BreakerNews(*P, WINDOW, 1))
        board.said(BreakerNews(*P, None))
        assert names(breakers) == "closed"


async def test_a_fault_of_the_sharing_is_not_lost() -> None:
    class Broken(Board):
        async def receive(self, said: Callable[[BreakerNews], None], again: Callable[[], Awaitable[bool]]) -> None:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await Breakers(targets=[P], board=Broken(), clock=Clock()).share()
