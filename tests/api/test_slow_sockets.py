"""A socket whose client does not read costs a bounded piece of memory, and holds nobody up."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import pytest

from app.telemetry.http import AsgiApp, Receive, Scope, Send
from tests.api.edge import listening
from tests.api.test_slow_readers import BUFFERS, SAID, long_text
from tests.scripted import ScriptedProvider
from tests.waiting import until


class Counting:
    """Counts what the server has taken of what is sent over sockets."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self.taken = 0
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Any) -> None:
            await send(message)
            self.taken += len(message.get("text") or "")

        self.open += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self.open -= 1


def shake_hands(port: int) -> socket.socket:
    """A connection that was turned into a socket, and reads nothing by itself."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    stalled.connect(("127.0.0.1", port))
    stalled.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    return stalled


@pytest.mark.long
async def test_the_server_takes_no_more_than_the_connection_holds(edge: Any) -> None:
    async with edge(ScriptedProvider(long_text(24_000))) as e:
        counting = Counting(e.app)
        async with listening(counting) as port:
            with closing(shake_hands(port)) as stalled:
                command = b'{"type":"run","message":"x"}'
                stalled.sendall(b"\x81" + bytes([0x80 | len(command)]) + b"\0\0\0\0" + command)
                await until(lambda: e.provider.closed)
                run_id = (await e.client.get("/v1/runs")).json()["data"][0]["id"]
                await e.became(run_id, "succeeded")
                assert counting.open == 1
                assert 0 < counting.taken < BUFFERS < 24_000 * len(SAID)
            await until(lambda: counting.open == 0)


async def test_a_client_that_does_not_read_keeps_no_process_from_closing(edge: Any) -> None:
    async with edge(ScriptedProvider(long_text(24_000))) as e:
        counting = Counting(e.app)
        async with listening(counting) as port:
            with closing(shake_hands(port)) as stalled:
                command = b'{"type":"run","message":"x"}'
                stalled.sendall(b"\x81" + bytes([0x80 | len(command)]) + b"\0\0\0\0" + command)
                await until(lambda: e.provider.closed)
                e.gate.closed = "closing"
                await until(lambda: counting.open == 0)
