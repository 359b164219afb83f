"""A client that does not read costs a bounded piece of memory, holds nobody up, and misses nothing once it reads on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from app.domain.models import Completed, ModelRequest, TextDelta
from app.runs.outgoing import PIECE
from app.telemetry.http import AsgiApp, Receive, Scope, Send
from tests.api.edge import frames, listening, text_of
from tests.api.keyed import OPERATOR, client_of, key_service, make_key
from tests.api.listening import listener
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

SAID = "0123456789abcdef" * 64
BUFFERS = 8_000_000
"""More than the kernel keeps for a connection on this machine."""


class Turn(asyncio.Event):
    """Lets others run, and goes on."""

    async def wait(self) -> Any:
        await asyncio.sleep(0)
        return True


def long_text(pieces: int) -> Any:
    """A model that writes so many kilobytes and lets others run in between."""

    def script(_: ModelRequest) -> Iterator[Any]:
        for number in range(pieces):
            yield TextDelta(SAID)
            if number % 32 == 0:
                yield turn
        yield Completed(content=SAID * pieces, tool_calls=(), stop="stop")

    turn = Turn()
    return script


async def test_what_waits_for_a_reader_is_one_piece(edge: Any) -> None:
    async with edge(ScriptedProvider(long_text(2000))) as e:
        path = "/chat/stream"
        async with listener(e.app, "POST", path, {"message": "x"}, reading=False) as slow:
            await until(lambda: e.provider.closed)
            run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
            while (await e.client.get(f"/v1/runs/{run_id}")).json()["finished_at"] is None:
                pass
            assert slow.offered <= PIECE + 10_000
            slow.reading.set()
            await until(lambda: slow.ended)
        events = frames(bytes(slow.content))
        assert "".join(data["text"] for _, name, data in events if name == "chunk") == SAID * 2000
        assert events[-1][1] == "done"


async def test_a_reader_that_falls_behind_gets_pieces(edge: Any) -> None:
    gate = asyncio.Event()
    end = Completed(content=SAID * 401, tool_calls=(), stop="stop")
    async with edge(ScriptedProvider([*[TextDelta(SAID)] * 400, gate, TextDelta(SAID), end])) as e:
        call = asyncio.create_task(e.ask())
        await until(lambda: e.provider.requests)
        run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
        async with listener(e.app, "GET", f"/v1/runs/{run_id}/events") as reader:
            await reader.seen(b"id: 2.%d\n" % (400 * len(SAID)))
            gate.set()
            await until(lambda: reader.ended)
        await call
        events = frames(bytes(reader.content))
        sizes = [len(data["text"]) for _, name, data in events if name == "message.delta"]
        assert len(sizes) > 5
        assert max(sizes) <= PIECE + len(SAID)
        assert text_of(events) == SAID * 401


class Counting:
    """Counts the bytes of bodies that the server has not taken yet, and those that it has."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.taken = 0
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Any) -> None:
            await send(message)
            self.taken += len(message.get("body", b""))

        self.open += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self.open -= 1


@pytest.mark.long
async def test_the_server_takes_no_more_than_the_connection_holds(edge: Any) -> None:
    async with edge(ScriptedProvider(long_text(24_000))) as e:
        counting = Counting(e.app)
        async with listening(counting) as port:
            with closing(socket.socket()) as stalled:
                stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                stalled.connect(("127.0.0.1", port))
                body = b'{"message":"x"}'
                stalled.sendall(
                    b"POST /chat/stream HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                await until(lambda: e.provider.closed)
                run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
                while (await e.client.get(f"/v1/runs/{run_id}")).json()["finished_at"] is None:
                    pass
                assert counting.open == 1
                assert 0 < counting.taken < BUFFERS < 24_000 * len(SAID)
            await until(lambda: counting.open == 0)


@contextmanager
def stalled(port: int, key: str) -> Iterator[socket.socket]:
    """Somebody that asks for a stream and reads nothing of it."""
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect(("127.0.0.1", port))
        body = b'{"message":"x"}'
        client.sendall(
            b"POST /chat/stream HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
        )
        yield client


async def test_a_revoked_key_frees_the_place_of_its_client_that_does_not_read(edge: Any, database: str) -> None:
    (made, key), (_, other) = await make_key(database), await make_key(database)
    async with edge(ScriptedProvider(long_text(12_000), says("ok")), max_streams=1) as e:
        counting = Counting(e.app)
        async with listening(counting) as port, client_of(e.app, other) as client, key_service(database) as keys:
            with stalled(port, key):
                await until(lambda: e.provider.closed)
                assert (await client.post("/chat/stream", json={"message": "x"})).status_code == 429
                await keys.revoke(OPERATOR, made.id)
                await until(lambda: counting.open == 0)
                assert counting.taken < 12_000 * len(SAID)
                assert (await client.post("/chat/stream", json={"message": "x"})).status_code == 200
