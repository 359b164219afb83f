"""Sockets that do not say who they are: they take nobody's place, and there are few of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.api.streams import OpenStreams, Seat
from app.domain.errors import RequestError
from tests.api.edge import listening
from tests.api.keyed import client_of, make_key
from tests.api.sockets import talking_to
from tests.scripted import ScriptedProvider, says


@pytest.mark.parametrize(("limit", "most"), [(1, 4), (20, 4), (200, 10), (10_000, 100)])
def test_how_many_there_may_be(limit: int, most: int) -> None:
    streams = OpenStreams(limit=limit)
    seats = [Seat(streams) for _ in range(most)]
    with pytest.raises(RequestError, match="who they are"):
        Seat(streams)
    assert streams.count == 0
    seats[0].take("acme")
    assert streams.count == 1
    Seat(streams)
    for seat in seats:
        seat.leave()
    assert streams.count == 0


def test_who_finds_no_place_stays_a_stranger() -> None:
    streams = OpenStreams(limit=1)
    streams.enter("acme")
    seat = Seat(streams)
    with pytest.raises(RequestError, match="1 streams"):
        seat.take("acme")
    seat.leave()
    assert streams.count == 1


async def test_strangers_take_nobodys_stream(edge: Any, database: str) -> None:
    _, key = await make_key(database)
    sent = {"Authorization": f"Bearer {key}"}
    async with edge(ScriptedProvider(*[says("ok")] * 9), max_streams=5) as e, listening(e.app) as port:
        stack = AsyncExitStack()
        async with stack:
            strangers = [await stack.enter_async_context(talking_to(port)) for _ in range(4)]
            async with talking_to(port) as late:
                await late.refused("queue_full")
                assert await late.closed() == 1013
            async with client_of(e.app, key) as client, AsyncExitStack() as own:
                for _ in range(4):  # the handshake says who it is
                    talk = await own.enter_async_context(talking_to(port, headers=sent))
                    await talk.say("ping")
                    assert (await talk.hear())["type"] == "pong"
                assert (await client.post("/chat/stream", json={"message": "x"})).status_code == 200
            await strangers[0].say("auth", token=key, ref="r")
            assert (await strangers[0].hear())["type"] == "ack"
            async with talking_to(port) as late:  # one is no stranger any more
                await late.say("auth", token=key, ref="r")
                assert (await late.hear())["type"] == "ack"


async def test_many_strangers_are_not_waited_for() -> None:
    """By the clock of the loop: alone one has all its time, with another one 2 s."""
    loop = asyncio.get_running_loop()
    streams = OpenStreams(limit=1)
    seats = [Seat(streams)]
    alone = asyncio.create_task(seats[0].waited(3.0))
    began = loop.time()
    await alone
    assert loop.time() - began > 2.9
    seats.append(Seat(streams))
    began = loop.time()
    await seats[1].waited(3600.0)
    assert loop.time() - began > 1.9


async def test_of_a_stranger_only_auth_is_read(edge: Any, database: str) -> None:
    """What is no JSON, or no command, is not told apart from what is: it was not read."""
    _, key = await make_key(database)
    unread = (
        '{"type":"run","agent":"helper","input":[' + "[]," * 20_000 + "[]]}",
        '{"type":"auth","token":"' + "x" * 10_000 + '"}',
        "[" * 100_000,
        '{"type":"run"}',
        '{"type":"nothing"}',
    )
    async with edge(ScriptedProvider(says("ok"))) as e, listening(e.app) as port:
        for frame in unread:
            async with talking_to(port) as talk:
                await talk.socket.send_str(frame)
                await talk.refused("unauthenticated")
                assert await talk.closed() == 1008
        async with talking_to(port) as talk:
            for frame, code in (("{", "malformed_json"), ('{"type":"auth","tokn":"x"}', "validation_error")):
                await talk.socket.send_str(frame)
                await talk.refused(code)
            await talk.say("auth", token=key, ref="r")
            assert (await talk.hear())["type"] == "ack"
            await talk.say("run", input="x" * 9_500, ref="large")
            assert (await talk.hear())["type"] == "ack"
        async with talking_to(port, headers={"Authorization": f"Bearer {key}"}) as talk:
            await talk.say("run", input="x" * 9_500, ref="large")
            assert (await talk.hear())["type"] == "ack"
