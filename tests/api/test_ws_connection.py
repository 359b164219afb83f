"""One socket whose client is slow, silent or gone, and a service that fails behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from app.api.aside import Aside
from app.api.authentication import Access
from app.api.guards import Gate
from app.api.limits import LimitRules, Limits
from app.api.streams import OpenStreams, Seat
from app.api.ws_connection import Connection
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.principals import ANONYMOUS
from app.runs.stream import Cursor, Item
from app.storage.local.limiter import LocalLimiter
from tests.api.edge import Always
from tests.waiting import until


class Socket:
    """The client's end, in this process: what it said, what it heard, whether it reads."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.offered = 0
        self.gone = False
        self.closed: tuple[int, str] | None = None

    def say(self, kind: str, **more: Any) -> None:
        text = msgspec.json.encode({"type": kind} | more).decode()
        self.said.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})

    def leave(self) -> None:
        self.said.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def receive(self) -> dict[str, Any]:
        return await self.said.get()

    async def send_data(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.offered += 1
        await self.reading.wait()
        self.heard.append(msgspec.json.decode(data))

    async def close(self, code: int, reason: str) -> None:
        await self.reading.wait()
        self.closed = (code, reason)


class Service:
    """Runs that say whatever the test wants, one event a batch; counts what is taken of each."""

    def __init__(self, *events: Exception | str) -> None:
        self.events_of_each = events
        self.taken = 0
        self.open = 0

    async def events(self, principal: Any, run_id: str, cursor: Cursor) -> AsyncGenerator[list[Item], None]:
        if run_id == "broken":
            raise ValueError("a bug")
        if run_id == "away":
            raise DatabaseUnavailable("refused")
        return self._batches()

    async def _batches(self) -> AsyncGenerator[list[Item], None]:
        self.open += 1
        try:
            for event in self.events_of_each:
                self.taken += 1
                if isinstance(event, Exception):
                    raise event
                yield [Item(str(self.taken), event, b"{}")] if event else []
            await asyncio.Event().wait()
        finally:
            self.open -= 1


def connect(socket: Socket, service: Service, **more: Any) -> tuple[asyncio.Task[None], Gate]:
    gate = Gate(None)
    connection = Connection(
        socket=socket,  # type: ignore[arg-type]  # as much of it as is used
        service=service,  # type: ignore[arg-type]
        access=Access(authentication=Always(ANONYMOUS)),
        credential=None,
        limits=Limits(limiter=LocalLimiter(), repeats=LocalLimiter(), rules=LimitRules(), refused=lambda _: None),
        seat=Seat(OpenStreams(limit=9)),
        request_id="r",
        max_frame=10_000,
        aside=Aside(),
        **more,
    )
    return asyncio.create_task(connection.serve(gate, 0.0)), gate


async def test_silence_is_told() -> None:
    socket = Socket()
    serving, _ = connect(socket, Service(*[""] * 9), ping=0.01)
    socket.say("subscribe", run_id="r")
    await until(lambda: len(socket.heard) > 2)
    assert {frame["type"] for frame in socket.heard} == {"ping"}
    socket.say("pong")
    socket.leave()
    await serving
    assert socket.closed is None


async def test_a_client_that_does_not_read_costs_one_frame_of_each_run() -> None:
    socket, service = Socket(), Service(*["message.delta"] * 1000)
    serving, gate = connect(socket, service)
    socket.reading.clear()
    for number in range(20):
        socket.say("subscribe", run_id=f"r{number}")
    await until(lambda: service.open == 20)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (service.taken, socket.offered) == (20, 1)
    socket.reading.set()
    await until(lambda: service.taken == 20_000)
    gate.closed = "closing"
    await serving
    assert service.open == 0
    assert socket.closed is not None


async def test_a_client_that_never_reads_is_left() -> None:
    socket, service = Socket(), Service(*["message.delta"] * 3)
    serving, _ = connect(socket, service, send_timeout=0.01)
    socket.reading.clear()
    socket.say("subscribe", run_id="r")
    await serving
    assert (service.open, socket.heard) == (0, [])


async def test_a_client_that_is_gone_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    socket, service = Socket(), Service(*["message.delta"] * 3)
    serving, _ = connect(socket, service)
    socket.gone = True
    socket.say("subscribe", run_id="r")
    await serving
    assert service.open == 0
    assert caplog.records == []


@pytest.mark.parametrize("where", ["command", "stream"])
async def test_a_fault_of_ours_closes_the_socket_and_is_told_to_the_log(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    socket = Socket()
    serving, _ = connect(socket, Service(ValueError("a bug")))
    socket.say("subscribe", run_id="broken" if where == "command" else "r")
    await serving
    assert socket.closed == (1011, "the service failed")
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert not any("a bug" in str(frame) for frame in socket.heard)


@pytest.mark.parametrize(
    ("run_id", "events", "code"),
    [
        ("away", [], "not_ready"),
        ("r", [DatabaseUnavailable("refused")], "not_ready"),
        ("r", [RequestError("not_found", "The run was deleted.")], "not_found"),
    ],
)
async def test_what_cannot_be_followed_any_more_is_told_and_the_socket_lives(
    run_id: str, events: list[Any], code: str
) -> None:
    socket = Socket()
    serving, _ = connect(socket, Service(*events))
    for _ in range(2):
        socket.say("subscribe", run_id=run_id, ref="x")
    await until(lambda: sum(frame["type"] == "error" for frame in socket.heard) == 2)
    for frame in socket.heard:
        assert frame["ref"] == "x"
        if frame["type"] == "error":
            assert (frame["run_id"], frame["problem"]["code"]) == (run_id, code)
            assert "refused" not in frame["problem"]["detail"]
    socket.leave()
    await serving
