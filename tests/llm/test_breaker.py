"""A process's breakers, with the other processes hidden behind a board that the test holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from app.domain.breakers import BreakerNews, BreakerState
from app.llm.breaker import LONGEST_OPEN, Breakers
from tests.llm.board import Board
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


async def opened(clock: Clock, board: Board | None = None) -> Breakers:
    breakers = Breakers(failures=5, open_seconds=WINDOW, targets=[P], board=board, clock=clock)
    assert await breakers.admit(*P)
    breakers.failed(*P, "opens", None)
    assert names(breakers) == "open"
    return breakers


async def test_five_failures_in_a_row_open_it_and_a_success_starts_anew() -> None:
    breakers = Breakers(targets=[P], clock=Clock())
    for ends in ("ffff", "s", "ffff", "a", "f"):
        for end in ends:
            assert await breakers.admit(*P)
            if end == "f":
                breakers.failed(*P, "counts", None)
            elif end == "s":
                breakers.succeeded(*P)
            else:
                breakers.abandoned(*P)
    assert breakers.state(*P) == BreakerState("open", 30.0)
    assert not await breakers.admit(*P)
    assert await breakers.admit("openai", "another")
    assert breakers.state("anthropic", "never-asked") == BreakerState("closed")


@pytest.mark.parametrize(("hint", "seconds"), [(None, 30.0), (3.0, 30.0), (45.0, 45.0), (86_400.0, LONGEST_OPEN)])
async def test_it_is_open_as_long_as_the_provider_says(hint: float | None, seconds: float) -> None:
    breakers = Breakers(clock=Clock())
    assert await breakers.admit(*P)
    breakers.failed(*P, "opens", hint)
    assert breakers.state(*P) == BreakerState("open", seconds)


async def test_a_probe_decides_whatever_older_calls_come_to() -> None:
    """Calls of many tasks at once: each report is about the call of the task that makes it, or of the one that began it."""
    clock = Clock()
    breakers = Breakers(failures=2, open_seconds=WINDOW, clock=clock)
    go: dict[str, asyncio.Future[str]] = {}
    admitted: dict[str, bool] = {}

    async def call(name: str, within: bool) -> None:
        admitted[name] = await breakers.admit(*P)
        if not admitted[name]:
            return

        async def end() -> None:
            match await go.setdefault(name, asyncio.get_running_loop().create_future()):
                case "ok":
                    breakers.succeeded(*P)
                case "failed":
                    breakers.failed(*P, "counts", None)
                case _:
                    breakers.abandoned(*P)

        await (asyncio.create_task(end()) if within else end())

    async def begin(name: str) -> None:
        tasks[name] = asyncio.create_task(call(name, within=len(tasks) % 2 == 1))
        await until(lambda: name in go or admitted.get(name) is False)

    async def end(name: str, how: str) -> str:
        go[name].set_result(how)
        await tasks[name]
        return names(breakers)

    tasks: dict[str, asyncio.Task[None]] = {}
    for name in ("a", "b", "old1", "old2", "old3", "old4", "old5"):
        await begin(name)
    assert await end("a", "failed") == "closed"
    assert await end("b", "failed") == "open"
    assert await end("old1", "ok") == "open"
    clock.now += WINDOW
    assert names(breakers) == "half_open"
    await begin("probe")
    await begin("second")
    assert (admitted["probe"], admitted["second"]) == (True, False)
    assert await end("old2", "ok") == "half_open"
    assert await end("old3", "failed") == "half_open"
    assert await end("old4", "abandoned") == "half_open"
    assert not await breakers.admit(*P)
    assert await end("probe", "ok") == "closed"
    await begin("new")
    assert await end("new", "failed") == "closed"
    assert await end("old5", "failed") == "closed"


async def test_a_probe_without_a_verdict_gives_its_place_back_and_one_that_fails_does_not() -> None:
    clock = Clock()
    breakers = await opened(clock)
    clock.now += WINDOW
    assert await breakers.admit(*P)
    assert not await breakers.admit(*P)
    breakers.abandoned(*P)
    assert await breakers.admit(*P)
    breakers.failed(*P, "counts", None)
    assert breakers.state(*P) == BreakerState("open", WINDOW)
    clock.now += WINDOW
    assert await breakers.admit(*P)  # and is never heard of again
    clock.now += WINDOW - 1
    assert not await breakers.admit(*P)
    clock.now += 1
    assert await breakers.admit(*P)


async def test_a_healthy_target_costs_no_call_to_the_others() -> None:
    board = Board()
    breakers = Breakers(targets=[P], board=board, clock=Clock())
    async with breakers.kept():
        for _ in range(100):
            coroutine = breakers.admit(*P)
            with pytest.raises(StopIteration) as ended:  # it ends without waiting once
                coroutine.send(None)
            assert ended.value.value is True
            breakers.succeeded(*P)
            breakers.failed(*P, "counts", None)
            breakers.succeeded(*P)
    assert board.asked == 0


async def test_an_opening_and_a_closing_are_told_once_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.llm.breaker")
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with breakers.kept():
        await until(lambda: board.told == [BreakerNews(*P, WINDOW)])
        clock.now += WINDOW
        assert await breakers.admit(*P)
        breakers.succeeded(*P)
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
    async with breakers.kept():
        clock.now += WINDOW
        board.places[P] = "another's"
        assert not await breakers.admit(*P)
        assert board.places == {P: "another's"}
        del board.places[P]
        assert await breakers.admit(*P)
        breakers.abandoned(*P)
        await until(lambda: not board.places)
        assert await breakers.admit(*P)
        breakers.failed(*P, "counts", None)
        assert P in board.places


async def test_who_is_cancelled_on_the_way_to_a_place_leaves_none_taken() -> None:
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with breakers.kept():
        clock.now += WINDOW
        board.slow = asyncio.Event()
        asking = asyncio.create_task(breakers.admit(*P))
        await until(lambda: board.waiting)
        assert not await breakers.admit(*P)
        asking.cancel()
        await asyncio.wait([asking])
        board.slow = None
        assert await breakers.admit(*P)


@pytest.mark.parametrize(("news", "answer"), [(None, True), (20.0, False)])
async def test_another_process_decides_while_a_place_is_asked_for(news: float | None, answer: bool) -> None:
    clock, board = Clock(), Board()
    breakers = await opened(clock, board)
    async with breakers.kept():
        await until(lambda: board.told)
        clock.now += WINDOW
        board.slow = asyncio.Event()
        asking = asyncio.create_task(breakers.admit(*P))
        await until(lambda: board.waiting)
        assert board.said is not None
        board.said(BreakerNews(*P, news))
        board.slow.set()
        assert await asking is answer
        await until(lambda: not board.places)


async def test_without_the_board_each_goes_by_itself_and_tells_later() -> None:
    clock, board = Clock(), Board()
    board.there.clear()
    breakers = await opened(clock, board)
    async with breakers.kept():
        clock.now += 10
        board.there.set()
        await until(lambda: board.told == [BreakerNews(*P, 20.0)])
        board.there.clear()
        clock.now += 20
        assert await breakers.admit(*P)
        assert not await breakers.admit(*P)
        breakers.succeeded(*P)
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
    async with breakers.kept():
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
    async with breakers.kept():
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
    async with breakers.kept():
        await until(lambda: board.told)
        assert board.said is not None
        board.said(BreakerNews(*P, None))  # told before ours, which the others hear after it
        assert names(breakers) == "open"
        board.said(BreakerNews(*P, WINDOW, 1))
        board.said(BreakerNews(*P, None))
        assert names(breakers) == "closed"


async def test_a_fault_of_the_sharing_is_not_lost() -> None:
    raised = asyncio.Event()

    class Broken(Board):
        async def receive(self, said: Callable[[BreakerNews], None], again: Callable[[], Awaitable[bool]]) -> None:
            raised.set()
            raise ZeroDivisionError

    async def life() -> None:
        async with Breakers(targets=[P], board=Broken(), clock=Clock()).kept():
            await raised.wait()

    with pytest.raises(ExceptionGroup):
        await life()
