"""Breakers of several processes over a real server, and what becomes of them while it is away."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from redis.asyncio import Redis

from app.domain.breakers import BreakerBoard, BreakerNews, BreakerState
from app.storage.redis.breakers import RedisBreakers
from app.storage.redis.live import open_live
from tests.redis_server import RedisServer
from tests.storage.redis.processes import WINDOW, P, listeners, process
from tests.waiting import until


async def test_one_opens_and_all_know_one_probes_and_all_know(redis: str) -> None:
    async with process(redis) as a, process(redis) as b, process(redis) as c:
        await listeners(redis, 3)
        await a.opens()
        await until(lambda: b.state == c.state == "open")
        assert WINDOW - 1 < (b.left or 0.0) <= WINDOW
        assert [await one.asks() for one in (a, b, c)] == [False] * 3
        for _ in range(3):  # windows in which the target stays dead: one probe each
            for one in (a, b, c):
                one.now += WINDOW
            assert a.state == b.state == c.state == "half_open"
            asked = await asyncio.gather(*(one.asks() for one in (a, b, c) for _ in range(5)))
            assert sum(asked) == 1
            assert not any([await one.asks() for one in (a, b, c)])
            prober = (a, b, c)[asked.index(True) // 5]
            prober.call.failed("counts", None)
            await until(lambda: a.state == b.state == c.state == "open")
            async with Redis.from_url(redis) as admin:
                await admin.delete("steadyhand:breaker:probe:openai/org/model:free")  # its time is the server's
        for one in (a, b, c):
            one.now += WINDOW
        assert await b.asks()
        b.call.succeeded()
        await until(lambda: a.state == b.state == c.state == "closed")
        assert all([await one.asks() for one in (a, b, c)])
        async with Redis.from_url(redis) as admin:
            assert not await admin.exists("steadyhand:breaker:probe:openai/org/model:free")


async def test_all_hear_all_news_in_one_order_and_know_their_own(redis: str) -> None:
    heard: list[list[BreakerNews]] = [[], []]

    async def again() -> bool:
        return True

    async with open_live(redis, timeout=5) as live, open_live(redis, timeout=5) as other:
        boards = [RedisBreakers(link=live.link), RedisBreakers(link=other.link)]
        listening = [asyncio.create_task(b.receive(h.append, again)) for b, h in zip(boards, heard, strict=True)]
        await listeners(redis, 2)
        await asyncio.gather(*(b.tell(BreakerNews(*P, None, serial)) for serial in range(20) for b in boards))
        await until(lambda: len(heard[0]) == len(heard[1]) == 40)
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)
    assert [sorted(n.serial for n in h if n.serial is not None) for h in heard] == [list(range(20))] * 2
    assert [n.serial is None for n in heard[0]] == [n.serial is not None for n in heard[1]]


async def test_a_probe_of_which_nothing_is_heard_keeps_its_place_for_one_window(redis: str) -> None:
    async with process(redis, window=0.2) as a, process(redis, window=0.2) as b:
        await listeners(redis, 2)
        await a.opens()
        await until(lambda: b.state == "open")
        a.now += 1
        b.now += 1
        before = time.monotonic()
        assert await a.asks()  # and then the process hangs
        asked = 1
        while not await b.asks():
            asked += 1
        assert time.monotonic() - before > 0.19
        assert asked > 1


async def test_a_place_given_back_is_free_for_all_unless_it_is_anothers_by_now(redis: str) -> None:
    async with process(redis) as a, process(redis) as b:
        await listeners(redis, 2)
        await a.opens()
        await until(lambda: b.state == "open")
        a.now += WINDOW
        b.now += WINDOW
        assert await a.asks()
        assert not await b.asks()
        a.call.abandoned()
        await until(b.asks)
        await a.board.give_back(*P, "another place")
        assert not await a.asks()


async def test_who_comes_late_learns_how_long_it_is_still_open(redis: str) -> None:
    async with process(redis) as a:
        await a.opens(retry_after=200.0)
        async with Redis.from_url(redis) as admin:
            key = "steadyhand:breaker:state:openai/org/model:free"
            await until(lambda: admin.exists(key))
            assert 3600 < await admin.ttl(key) <= 3800
            async with process(redis) as late:
                assert 195 < (late.left or 0.0) <= 200
            await admin.pexpire(key, 3_600_000 - 1)  # two hundred seconds later
            async with process(redis) as later:
                assert later.state == "half_open"
                assert await later.asks()
                later.call.succeeded()
                await until(lambda: a.state == "closed")
        async with process(redis) as latest:
            assert latest.state == "closed"


async def test_databases_of_one_server_do_not_hear_each_other(own_redis: RedisServer) -> None:
    async with (
        process(f"{own_redis.url}/1") as a,
        process(f"{own_redis.url}/2") as b,
        process(f"{own_redis.url}/2") as c,
    ):
        await listeners(f"{own_redis.url}/1", 1)
        await listeners(f"{own_redis.url}/2", 2)
        await a.opens()
        await until(lambda: not a.breakers._untold)
        await b.opens()
        await until(lambda: c.state == "open")
        a.now += WINDOW
        assert await a.asks()
        a.call.succeeded()
        await until(lambda: not a.breakers._untold)
        assert b.state == c.state == "open"


async def test_a_server_that_dies_and_comes_back_empty(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = own_redis.url
    async with process(url, timeout=0.5, idle=0.2) as a, process(url, timeout=0.5, idle=0.2) as b:
        await listeners(url, 2)
        await a.opens()
        await until(lambda: b.state == "open")
        own_redis.kill()
        a.now += WINDOW
        b.now += WINDOW
        # Each for itself, with a probe of its own.
        assert [await a.asks(), await a.asks(), await b.asks(), await b.asks()] == [True, False, True, False]
        before = time.monotonic()
        a.call.succeeded()
        b.call.failed("opens", None)
        assert (a.state, b.state) == ("closed", "open")
        for _ in range(1000):
            assert await a.asks()
            assert not await b.asks()
        assert time.monotonic() - before < 1
        b.now += WINDOW
        assert await b.asks()
        b.call.succeeded()
        await a.opens(retry_after=100.0)
        own_redis.start()
        await until(lambda: a.state == b.state)
        await until(lambda: not a.breakers._untold and not b.breakers._untold)
        await listeners(url, 2)
        async with process(url) as late:
            assert late.state == a.state
        for one in (a, b):
            one.now += 100
        if a.state == "half_open":
            assert await b.asks()
            assert not await a.asks()
            b.call.succeeded()
        await until(lambda: a.state == b.state == "closed")
    assert [record.message for record in caplog.records].count("redis_available_again") == 2


async def test_an_opening_while_it_is_away_is_told_when_it_is_back(own_redis: RedisServer) -> None:
    url = own_redis.url
    async with process(url, timeout=0.5, idle=0.2) as a, process(url, timeout=0.5, idle=0.2) as b:
        await listeners(url, 2)
        own_redis.kill()
        await a.opens(retry_after=60.0)
        a.now += 20.0
        assert b.state == "closed"
        own_redis.start()
        await until(lambda: b.state == "open")
        assert 35 < (b.left or 0.0) <= 40
        await listeners(url, 2)
        own_redis.kill()
        own_redis.start()  # it forgot everything, and nothing happened since
        await listeners(url, 2)
        async with Redis.from_url(url) as admin:
            await until(lambda: admin.exists("steadyhand:breaker:state:openai/org/model:free"))


async def test_news_that_a_cut_connection_missed_are_read(redis: str) -> None:
    async with process(redis) as a, process(redis) as b, Redis.from_url(redis) as admin:
        await listeners(redis, 2)
        await a.opens()
        await until(lambda: b.state == "open")
        key = "steadyhand:breaker:state:openai/org/model:free"
        await admin.set(key, "closed 3600000", px=3_600_000)
        number = redis.rpartition("/")[2]
        clients = [client for client in await admin.client_list() if client["db"] == number and client["sub"] == "1"]
        assert len(clients) == 2
        for client in clients:
            await admin.client_kill(client["addr"])
        await until(lambda: a.state == b.state == "closed")


async def test_a_server_that_answers_nothing_keeps_nobody(own_redis: RedisServer) -> None:
    async with process(own_redis.url, timeout=0.2, idle=0.2) as a:
        await listeners(own_redis.url, 1)
        await a.opens()
        await until(lambda: not a.breakers._untold)
        a.now += WINDOW
        own_redis.pause()
        before = time.monotonic()
        assert await a.asks()
        assert time.monotonic() - before < 2
        a.call.succeeded()
        own_redis.go_on()
        async with process(own_redis.url) as late:
            await until(lambda: late.state == "closed" and not a.breakers._untold)


async def test_a_server_that_is_not_there_at_the_start() -> None:
    server = RedisServer()
    async with process(server.url, timeout=0.5) as a, process(server.url, timeout=0.5) as b:
        await a.opens()
        assert b.state == "closed"
        server.start()
        try:
            await until(lambda: b.state == "open")
        finally:
            server.kill()


async def test_a_server_that_refuses_to_write(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Redis.from_url(own_redis.url) as admin, process(own_redis.url) as a, process(own_redis.url) as b:
        await listeners(own_redis.url, 2)
        await admin.config_set("maxmemory", 1)
        await a.opens()
        await until(lambda: not a.breakers._untold)
        a.now += WINDOW
        assert [await a.asks(), await a.asks()] == [True, False]
        a.call.failed("counts", None)
        await until(lambda: not a.breakers._untold)
        await admin.config_set("maxmemory", 0)
        a.now += WINDOW
        assert await a.asks()
        a.call.failed("counts", None)
        await until(lambda: b.state == "open")
    said = [record.message for record in caplog.records if record.name.startswith("app.storage")]
    assert said == ["redis_refuses_breakers"]


async def test_garbage_changes_nothing(redis: str) -> None:
    name = "steadyhand:breaker:state:openai/org/model:free"
    channel = f"steadyhand:breakers:{redis.rpartition('/')[2]}"
    async with process(redis) as a, Redis.from_url(redis) as admin:
        await listeners(redis, 1)
        board: BreakerBoard = a.board
        for value in (b"", b"open", b"open x", b"ajar 3600000", b"\xff", b"open 99999999999"):
            await admin.set(name, value)
            assert await board.read([P]) == {}
        await admin.set(name, b"open 3600000")  # without an end
        assert await board.read([P]) == {P: BreakerNews(*P, 0.0)}
        await admin.delete(name)
        await admin.lpush(name, "a list")
        assert await board.read([P]) == {}
        for value in (
            b"",
            b"\xff\xfe",
            b"[]",
            b'{"by": "x"}',
            b"[" * 100_000,
            b'{"by":"x","serial":1,"provider":"openai","model":"m"}',
        ):
            await admin.publish(channel, value)
        for seconds in ("-1", "1e999", '"1"', "NaN"):
            said = f'{{"by":"x","serial":1,"provider":"openai","model":"org/model:free","open_for":{seconds}}}'
            await admin.publish(channel, said)
        await admin.publish(channel, '{"by":"x","serial":1,"provider":"openai","model":"nobody\'s","open_for":9}')
        await admin.publish(
            channel, '{"by":"x","serial":1,"provider":"openai","model":"org/model:free","open_for":9,"more":1}'
        )
        await until(lambda: a.state == "open")
        assert a.breakers.state(*P) == BreakerState("open", 9.0)
        assert a.breakers.targets == [P]
        await admin.publish(
            channel, '{"by":"x","serial":1,"provider":"openai","model":"org/model:free","open_for":1e9}'
        )
        await until(lambda: a.left == 600.0)
