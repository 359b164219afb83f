"""The live channel over a real server: two processes' worth of channels, and a server that goes away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from app.domain.errors import ConfigError
from app.domain.hints import LiveChannel, LivePiece
from app.storage.redis.live import RedisLive, open_live
from tests.redis_server import RedisServer
from tests.waiting import until

RUN = "run_0198f2a4b7c1e5d2a9f0b3c4"


def piece(offset: int, text: str, *, run_id: str = RUN, message_id: str = "msg_1", seq: int = 4) -> LivePiece:
    return LivePiece(run_id=run_id, message_id=message_id, seq=seq, offset=offset, text=text)


class Ear:
    """Who listens in another process."""

    def __init__(self, live: RedisLive) -> None:
        self.live = live
        self.heard: list[LivePiece] = []
        self.again = 0

    async def looked(self) -> None:
        self.again += 1


@asynccontextmanager
async def ear(url: str, *, timeout: float = 5, idle: float = 5) -> AsyncIterator[Ear]:
    async with open_live(url, timeout=timeout, retry=0.1, idle=idle) as live:
        ear = Ear(live)
        task = asyncio.create_task(live.receive(ear.heard.append, ear.looked))
        try:
            yield ear
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def mouth(redis: str) -> AsyncIterator[LiveChannel]:
    async with open_live(redis, timeout=5) as live:
        yield live


async def test_pieces_arrive_where_somebody_listens(redis: str, mouth: LiveChannel) -> None:
    async with ear(redis) as one, ear(redis) as other:
        await until(lambda: one.live._connection and other.live._connection)
        await one.live.listen(RUN)
        await other.live.listen("run_2")
        sent = [piece(0, "Grüß "), piece(5, "🙂🙂"), piece(0, "x", run_id="run_2")]
        await mouth.send(sent)
        await until(lambda: len(one.heard) == 2 and len(other.heard) == 1)
        assert (one.heard, other.heard) == (sent[:2], sent[2:])
        await one.live.leave(RUN)
        await one.live.listen("run_3")
        await mouth.send([piece(7, "!"), piece(0, "y", run_id="run_3")])
        await until(lambda: len(one.heard) == 3)
        assert one.heard[2].text == "y"
        assert (one.again, other.again) == (0, 0)


async def test_who_comes_late_gets_the_text_so_far(redis: str, mouth: LiveChannel) -> None:
    assert await mouth.snapshot(RUN) is None
    await mouth.send([piece(0, "a🙂")])
    await mouth.send([piece(2, "\n1 2\x00\x7f"), piece(8, "Ω" * 1000)])
    expected = piece(0, "a🙂\n1 2\x00\x7f" + "Ω" * 1000)
    assert await mouth.snapshot(RUN) == expected
    async with Redis.from_url(redis) as admin:
        assert 0 < await admin.ttl(f"steadyhand:live:{RUN}") <= 3600
    await mouth.send([piece(0, "next", message_id="msg_2", seq=6)])
    assert await mouth.snapshot(RUN) == piece(0, "next", message_id="msg_2", seq=6)


async def test_a_lone_surrogate_keeps_the_offsets(mouth: LiveChannel) -> None:
    await mouth.send([piece(0, "a\ud800b"), piece(3, "c")])
    assert await mouth.snapshot(RUN) == piece(0, "a?bc")


async def test_text_that_does_not_follow_is_not_kept(mouth: LiveChannel) -> None:
    await mouth.send([piece(0, "abc"), piece(0, "abc"), piece(1, "b"), piece(3, "d")])
    assert await mouth.snapshot(RUN) == piece(0, "abcd")
    await mouth.send([piece(6, "g")])
    assert await mouth.snapshot(RUN) is None
    await mouth.send([piece(7, "h")])
    assert await mouth.snapshot(RUN) is None
    await mouth.send([piece(0, "abcdefgh")])
    assert await mouth.snapshot(RUN) == piece(0, "abcdefgh")


async def test_a_dead_attempt_changes_nothing(mouth: LiveChannel) -> None:
    await mouth.send([piece(0, "old")])
    await mouth.send([piece(0, "new", message_id="msg_5", seq=5)])
    await mouth.send([piece(3, "er"), piece(0, "older")])
    assert await mouth.snapshot(RUN) == piece(0, "new", message_id="msg_5", seq=5)


async def test_a_very_long_text_is_not_kept(redis: str) -> None:
    async with open_live(redis, kept_bytes=1000, timeout=5) as live, ear(redis) as other:
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        await live.send([piece(0, "ä" * 400)])
        assert await live.snapshot(RUN) == piece(0, "ä" * 400)
        await live.send([piece(400, "ä" * 100), piece(500, "!"), piece(0, "x" * 1001, run_id="run_2")])
        assert await live.snapshot(RUN) is None
        assert await live.snapshot("run_2") is None
        await until(lambda: len(other.heard) == 3)


async def test_garbage_is_nobodys_text(redis: str, mouth: LiveChannel) -> None:
    key = f"steadyhand:live:{RUN}"
    async with Redis.from_url(redis) as admin, ear(redis) as other:
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        bad = [
            b"",
            b"x",
            b"\xff\xfe",
            b"zzzz zzzz m\nx",
            b"%016d %016d m\n\xff" % (1, 1),
            b"%016d %016d m\nlong" % (1, 2),
        ]
        for value in bad:
            await admin.set(key, value)
            await admin.publish(key, value)
            assert await mouth.snapshot(RUN) is None
        await admin.set(key, b"zzzzzzzzzzzzzzzz zzzzzzzzzzzzzzzz msg_1\nx")
        await mouth.send([piece(0, "fine")])
        assert await mouth.snapshot(RUN) == piece(0, "fine")
        await admin.delete(key)
        await admin.lpush(key, "a list")
        assert await mouth.snapshot(RUN) is None
        await mouth.send([piece(4, " too"), piece(0, "other", run_id="run_2")])
        assert await mouth.snapshot("run_2") == piece(0, "other", run_id="run_2")
        await until(lambda: len(other.heard) == 2)
        assert [p.text for p in other.heard] == ["fine", " too"]


async def test_many_runs(redis: str, mouth: LiveChannel) -> None:
    runs = [f"run_{n}" for n in range(1000)]
    async with ear(redis) as other:
        await until(lambda: other.live._connection)
        await asyncio.gather(*map(other.live.listen, runs))
        for part in range(5):
            await mouth.send([piece(part, str(part), run_id=run_id) for run_id in runs])
        await until(lambda: len(other.heard) == 5000)
        kept = await asyncio.gather(*map(other.live.snapshot, runs))
        assert kept == [piece(0, "01234", run_id=run_id) for run_id in runs]
        await asyncio.gather(*map(other.live.leave, runs))


async def test_calls_at_once_keep_their_order(redis: str, mouth: LiveChannel) -> None:
    async with ear(redis) as other:
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        await asyncio.gather(*(mouth.send([piece(n, str(n % 10))]) for n in range(200)))
        await until(lambda: len(other.heard) == 200)
        assert [p.offset for p in other.heard] == list(range(200))
        assert await mouth.snapshot(RUN) == piece(0, "0123456789" * 20)


async def test_a_cancelled_call_breaks_no_other(mouth: LiveChannel) -> None:
    for n in range(20):
        call = asyncio.create_task(mouth.send([piece(n, "x")]))
        for _ in range(n):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await mouth.snapshot(RUN)
    await mouth.send([piece(0, "fine", message_id="msg_2", seq=5)])
    assert await mouth.snapshot(RUN) == piece(0, "fine", message_id="msg_2", seq=5)


async def test_a_server_that_dies_and_comes_back(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        open_live(own_redis.url, timeout=0.5, retry=0.1) as mouth,
        ear(own_redis.url, timeout=0.5, idle=0.2) as other,
    ):
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        await mouth.send([piece(0, "abc")])
        await until(lambda: other.heard)
        own_redis.kill()
        await mouth.send([piece(3, "def")])
        before = time.monotonic()
        for n in range(1000):
            await mouth.send([piece(6 + n, "x")])
        assert await mouth.snapshot(RUN) is None
        await other.live.listen("run_2")
        await other.live.leave("run_2")
        assert time.monotonic() - before < 0.5
        assert await mouth.health() is not None
        await until(lambda: other.live._connection is None)
        own_redis.start()
        await until(lambda: other.again == 1 and mouth._link.there())
        await mouth.send([piece(1006, "z"), piece(0, "new", message_id="msg_2", seq=5)])
        await until(lambda: len(other.heard) == 3)
        assert await mouth.snapshot(RUN) == piece(0, "new", message_id="msg_2", seq=5)
        assert await mouth.health() is None
    said = [record.message for record in caplog.records]
    assert said.count("redis_unavailable") == 2  # one a channel
    assert said.count("redis_available_again") == 2


async def test_a_server_that_answers_nothing(own_redis: RedisServer) -> None:
    async with (
        open_live(own_redis.url, timeout=0.2, retry=0.1) as mouth,
        ear(own_redis.url, timeout=0.5, idle=0.2) as other,
    ):
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        own_redis.pause()
        before = time.monotonic()
        await asyncio.gather(*(mouth.send([piece(0, "x", run_id=f"run_{n}")]) for n in range(100)))
        await asyncio.gather(*(mouth.snapshot(f"run_{n}") for n in range(100)))
        await other.live.listen("run_2")
        assert time.monotonic() - before < 2
        assert await mouth.health() == "no answer in time"
        await until(lambda: other.live._connection is None)
        own_redis.go_on()
        await until(lambda: other.again == 1 and mouth._link.there())
        await mouth.send([piece(0, "back"), piece(0, "too", run_id="run_2")])
        await until(lambda: {p.text for p in other.heard} >= {"back", "too"})


async def test_a_connection_that_is_cut(redis: str, mouth: LiveChannel) -> None:
    async with Redis.from_url(redis) as admin, ear(redis) as other:
        await until(lambda: other.live._connection)
        await other.live.listen(RUN)
        number = redis.rpartition("/")[2]
        clients = [client for client in await admin.client_list() if client["db"] == number and client["sub"] == "1"]
        await admin.client_kill(clients[0]["addr"])
        await until(lambda: other.again == 1)
        await mouth.send([piece(0, "abc")])
        await until(lambda: other.heard)


async def test_a_server_that_is_not_there_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer()
    async with open_live(server.url, timeout=0.5, retry=0.05) as live, ear(server.url, timeout=0.5, idle=0.2) as other:
        await live.send([piece(0, "x")])
        await other.live.listen(RUN)
        server.start()
        try:
            await until(lambda: live._link.there() and other.again == 1)
            await live.send([piece(0, "y")])
            await until(lambda: other.heard)
        finally:
            server.kill()
    assert [record.message for record in caplog.records].count("redis_unavailable") == 2


async def test_a_server_that_forgot_the_script(own_redis: RedisServer) -> None:
    async with Redis.from_url(own_redis.url) as admin, open_live(own_redis.url) as mouth:
        await admin.script_flush()
        await mouth.send([piece(0, "lost")])
        await until(mouth._link.there)
        await mouth.send([piece(0, "kept")])
        assert await mouth.snapshot(RUN) == piece(0, "kept")


async def test_a_server_that_refuses_to_write(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with Redis.from_url(own_redis.url) as admin, open_live(own_redis.url) as live:
        await admin.config_set("maxmemory", 1)
        for n in range(3):
            await live.send([piece(n, "x")])
        await admin.config_set("maxmemory", 0)
        await live.send([piece(0, "fine")])
        assert await live.snapshot(RUN) == piece(0, "fine")
    assert [record.message for record in caplog.records] == ["redis_refuses_live_text"]


async def test_a_failure_of_who_listens_ends_nothing(own_redis: RedisServer) -> None:
    async def failing() -> None:
        raise RuntimeError("a bug")

    heard: list[LivePiece] = []

    def taken(piece: LivePiece) -> None:
        heard.append(piece)
        raise RuntimeError("another bug")

    async with open_live(own_redis.url, retry=0.05) as live:
        await live.listen(RUN)
        task = asyncio.create_task(live.receive(taken, failing))
        await until(lambda: live._connection)
        await live.listen(RUN)
        await live.send([piece(0, "x"), piece(1, "y")])
        await until(lambda: len(heard) == 2)
        task.cancel()
        await asyncio.wait([task])


async def test_a_wrong_url() -> None:
    with pytest.raises(ConfigError, match=r"redis\.url"):
        async with open_live("http://nowhere"):
            pass
