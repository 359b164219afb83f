"""Hints between processes: several listeners on one database, connections that are cut, and nobody to tell."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from app.domain.errors import ConfigError, DatabaseUnavailable
from app.domain.hints import Hints
from app.storage.postgres.hints import CHANNEL, MOST_BYTES, PostgresHints, payloads
from app.storage.postgres.pool import connect
from tests.postgres_server import sibling
from tests.waiting import until

_BUS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'steadyhand bus %'"
)


class Process:
    """What one process was told."""

    def __init__(self, hints: PostgresHints) -> None:
        self.hints = hints
        self.told: list[str] = []
        self.missed = 0

    def queued(self) -> None:
        self.told.append("queued")

    def wrote(self, run_id: str) -> None:
        self.told.append(f"wrote {run_id}")

    def posted(self, run_id: str) -> None:
        self.told.append(f"posted {run_id}")

    def dropped(self, labels: Sequence[str]) -> None:
        self.told.append(f"dropped {' and '.join(labels)}")

    def switched(self) -> None:
        self.told.append("switched")

    def miss(self) -> None:
        self.missed += 1


@asynccontextmanager
async def process(
    database: str, *, look: float = 0.05, most: int = 10_000, timeout: float = 5
) -> AsyncIterator[Process]:
    hints = PostgresHints(dsn=database, look=look, retry=0.2, most=most, timeout=timeout)
    one = Process(hints)
    await hints.start(one, one.miss)
    try:
        yield one
    finally:
        await hints.aclose()


@pytest.fixture
async def watching(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database)
    yield connection
    await connection.close()


async def test_every_other_process_is_told_and_never_oneself(database: str) -> None:
    async with process(database) as one, process(database) as two, process(database) as three:
        await until(lambda: all(each.hints._others for each in (one, two, three)))
        hints: Hints = one.hints
        hints.queued()
        hints.wrote("run_1")
        hints.wrote("run_1")
        hints.posted("run_2")
        one.hints.dropped(["0a", "1b"])
        expected = ["queued", "wrote run_1", "posted run_2", "dropped 0a and 1b"]
        await until(lambda: two.told == expected and three.told == expected)
        two.hints.queued()
        await until(lambda: one.told == ["queued"] and len(three.told) == 5)
        assert two.told == expected
        assert (one.missed, two.missed, three.missed) == (0, 0, 0)


async def test_nothing_is_said_to_nobody_until_somebody_says_hello(database: str, watching: asyncpg.Connection) -> None:
    said: list[str] = []
    await watching.add_listener(CHANNEL, lambda *arguments: said.append(arguments[3]))
    async with process(database, look=60) as one:
        await until(lambda: said == ["h"])
        one.hints.wrote("run_1")
        assert not one.hints._pending
        async with process(database, look=60) as two:
            await until(lambda: one.hints._others and two.hints._others)
            one.hints.wrote("run_2")
            await until(lambda: two.told == ["wrote run_2"])
        await until(lambda: said == ["h", "h", "wrun_2"])


async def test_falls_silent_when_the_others_are_gone(database: str) -> None:
    async with process(database) as one:
        async with process(database):
            await until(lambda: one.hints._others)
        await until(lambda: not one.hints._others)


async def test_processes_that_begin_at_once_find_each_other(database: str) -> None:
    async with AsyncExitStack() as stack:
        found = await asyncio.gather(*(stack.enter_async_context(process(database, look=60)) for _ in range(5)))
        await until(lambda: all(each.hints._others for each in found))


async def test_another_database_is_another_bus(postgres: str, database: str) -> None:
    async with process(database, look=60) as one, process(sibling(postgres, "postgres"), look=60) as elsewhere:
        async with process(database, look=60) as two:
            await until(lambda: one.hints._others and two.hints._others)
            one.hints.queued()
            await until(lambda: two.told == ["queued"])
        assert not elsewhere.hints._others
        assert elsewhere.told == []


async def test_a_cut_connection_is_made_again(
    database: str, watching: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(database) as one, process(database) as two:
        await until(lambda: one.hints._others and two.hints._others)
        await watching.fetch(f"SELECT pg_terminate_backend(pid) FROM ({_BUS}) b")
        for n in range(100):
            one.hints.wrote(f"run_{n}")
        await until(lambda: one.missed and two.missed)
        await until(lambda: one.hints._others and two.hints._others)
        two.told.clear()
        one.hints.queued()
        await until(lambda: two.told == ["queued"])
    assert [record.message for record in caplog.records] == ["hints_connection_lost"] * 2


async def test_who_stayed_is_told_to_look_when_another_one_is_back(database: str, watching: asyncpg.Connection) -> None:
    async with process(database) as one:
        first = await watching.fetchval(_BUS)
        async with process(database) as two:
            await until(lambda: one.hints._others and two.hints._others)
            await watching.fetch("SELECT pg_terminate_backend($1)", first)
            await until(lambda: one.missed == 1 and two.missed == 1)


async def test_many_hints_go_out_in_several_payloads(database: str) -> None:
    async with process(database) as one, process(database) as two:
        await until(lambda: one.hints._others)
        for n in range(3000):
            one.hints.wrote(f"run_{n:012}")
        await until(lambda: len(two.told) == 3000)
        assert two.told == [f"wrote run_{n:012}" for n in range(3000)]
        assert two.missed == 0


async def test_too_many_hints_become_one(database: str) -> None:
    async with process(database, most=100) as one, process(database) as two:
        await until(lambda: one.hints._others)
        for n in range(100_000):
            one.hints.wrote(f"run_{n}")
        assert len(one.hints._pending) == 1
        await until(lambda: two.missed == 1)
        assert two.told == []


async def test_a_connection_that_hangs_is_replaced_and_costs_no_memory(
    database: str, watching: asyncpg.Connection
) -> None:
    async with process(database, most=500, timeout=0.3) as one:
        stopped = await watching.fetchval(_BUS)
        async with process(database) as two:
            await until(lambda: one.hints._others and two.hints._others)
            os.kill(stopped, signal.SIGSTOP)
            try:
                for n in range(10_000):
                    one.hints.posted(f"run_{n}")
                    if n % 100 == 0:
                        await asyncio.sleep(0)
                    assert len(one.hints._pending) <= 500
                await until(lambda: one.missed == 1 and two.missed == 1)
            finally:
                os.kill(stopped, signal.SIGCONT)


async def test_garbage_on_the_channel_changes_nothing(database: str, watching: asyncpg.Connection) -> None:
    async with process(database) as one, process(database) as two:
        await until(lambda: one.hints._others)
        for payload in ("", " ", "x", "wx" * 3000, "ü \t\n", "\x7f"):
            await watching.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        for run_id in ("", "with space", "nul\0", "ü", "x" * 201):
            one.hints.wrote(run_id)
        one.hints.posted("run_1")
        await until(lambda: "posted run_1" in two.told)
        assert (one.missed, two.missed) == (0, 0)


async def test_a_hint_that_fails_ends_nothing(database: str) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    async with process(database) as one, process(database) as two:
        two.queued = broken  # type: ignore[method-assign]
        await until(lambda: one.hints._others)
        one.hints.queued()
        one.hints.posted("run_1")
        await until(lambda: two.told == ["posted run_1"])


async def test_a_start_without_a_database(database: str) -> None:
    nowhere = Process(PostgresHints(dsn="postgresql://u@127.0.0.1:1/x"))
    with pytest.raises(DatabaseUnavailable):
        await nowhere.hints.start(nowhere, nowhere.miss)
    await nowhere.hints.aclose()
    wrong = Process(PostgresHints(dsn="http://x"))
    with pytest.raises(ConfigError):
        await wrong.hints.start(wrong, wrong.miss)


def test_payloads() -> None:
    assert payloads([]) == []
    assert payloads(["q"]) == ["q"]
    words = [f"wrun_{n}" for n in range(5000)]
    found = payloads(words)
    assert " ".join(found).split(" ") == words
    assert max(map(len, found)) <= MOST_BYTES
    assert len(found) == len(" ".join(words)) // MOST_BYTES + 1


async def test_one_that_is_closed_before_it_began_leaves_no_connection(database: str) -> None:
    async with process(database):
        pass  # the keeper had no turn yet


async def test_last_words_are_said(database: str) -> None:
    async with process(database) as two:
        async with process(database) as one:
            await until(lambda: one.hints._others)
            for n in range(2000):
                one.hints.wrote(f"run_{n}")
            one.hints.queued()
        await until(lambda: two.told[-1:] == ["queued"])
