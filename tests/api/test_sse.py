"""The bytes of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.api.revocations import Revocations
from app.api.sse import ALIVE, GOODBYE, LARGE, OPENING, REFUSED, QuickView, encode
from app.api.streams import OpenStreams
from app.domain.approvals import PendingApproval
from app.domain.errors import RequestError
from app.domain.events import RunWaiting
from app.domain.principals import Principal
from app.runs.stream import Item
from tests.waiting import until

SAID = Item("1", "said", b"{}")
NAMELESS = Item(None, "reasoning.delta", b"{}")


class Told:
    """A stream that goes on at given times, and the clock that shows them."""

    def __init__(self, *batches: tuple[float, list[Item]]) -> None:
        self._batches = batches
        self._now = 0.0

    def clock(self) -> float:
        return self._now

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        for at, batch in self._batches:
            self._now = at
            yield batch


async def name(item: Item) -> bytes:
    return b"" if item is NAMELESS else item.payload


async def test_a_stream_whose_events_have_no_name_says_that_it_lives() -> None:
    told = Told(
        (1.0, [SAID]), (10.9, [NAMELESS]), (11.0, [NAMELESS, NAMELESS]), (15.0, [NAMELESS]), (20.9, [NAMELESS]),
        (21.5, [NAMELESS]), (30.0, [NAMELESS, SAID]), (39.9, [NAMELESS]), (49.9, []), (59.0, [NAMELESS]), (60.0, [NAMELESS]),
    )  # fmt: skip
    sent = [(told.clock(), data) async for data in encode(told.batches(), name, keep_alive=10.0, clock=told.clock)]
    assert sent == [
        (0.0, OPENING), (1.0, b"{}"), (11.0, ALIVE), (21.5, ALIVE), (30.0, b"{}"), (49.9, ALIVE), (60.0, ALIVE),
        (60.0, GOODBYE),
    ]  # fmt: skip


async def test_what_was_sent_in_parts_was_sent() -> None:
    large = Item("2", "said", b"x" * (LARGE + 1))
    told = Told((10.0, [large, NAMELESS]), (19.9, [NAMELESS]), (20.0, [NAMELESS]))
    sent = [(told.clock(), len(data)) async for data in encode(told.batches(), name, keep_alive=10.0, clock=told.clock)]
    assert sent == [(0.0, len(OPENING)), (10.0, LARGE + 1), (20.0, len(ALIVE)), (20.0, len(GOODBYE))]


WAITING = RunWaiting(
    stop_reason="approval_required",
    approvals=(
        PendingApproval(
            id="apr_1", call_id="c1", name="risky", arguments={"x": 1}, risk="high", expires_at=datetime(2026, 1, 2, tzinfo=UTC)
        ),
    ),
    model="m",
    iterations=2,
)  # fmt: skip
WAITS = Item("7", "run.waiting", msgspec.json.encode(WAITING))
STARTS = Item("9", "run.started", b'{"attempt":2}')
ENDS = Item("12", "run.finished", b"{}")


async def test_a_run_that_waits_is_done_for_the_quick_view() -> None:
    view = QuickView(run_id="run_1", agent_version="v", request_id="r")
    head, event, body = (await view.frames(WAITS)).decode().strip().split("\n")
    told = msgspec.json.decode(body.removeprefix("data: "))
    about = told.pop("metadata")
    assert (head, event) == ("id: 7", "event: done")
    assert told == {
        "result": None, "status": "waiting", "run_id": "run_1",
        "approvals": [{
            "id": "apr_1", "call_id": "c1", "name": "risky", "arguments": {"x": 1}, "risk": "high",
            "expires_at": "2026-01-02T00:00:00Z",
        }],
    }  # fmt: skip
    assert about["stop_reason"] == "approval_required"
    assert (about["model"], about["iterations"], about["cached"], about["degraded"]) == ("m", 2, False, False)
    assert "steps" not in about


@pytest.mark.parametrize(
    ("batches", "ids"),
    [
        ([[SAID], [WAITS], [ENDS]], ["1", "7"]),
        ([[SAID, WAITS, SAID], [ENDS]], ["1", "7"]),
        ([[WAITS, SAID, STARTS], [SAID], [ENDS]], ["1", "9", "1", "12"]),
        ([[WAITS, STARTS, WAITS, SAID], [ENDS]], ["9", "7"]),
        ([[WAITS, ENDS]], ["12"]),
    ],
)
async def test_a_wait_ends_the_stream_of_one_who_does_not_stay(batches: list[list[Item]], ids: list[str]) -> None:
    told = Told(*((float(at), batch) for at, batch in enumerate(batches)))
    sent = [data async for data in encode(told.batches(), show_id, through_waits=False, clock=told.clock)]
    assert b"".join(sent[1:]).decode().split() == ids


async def test_one_who_stays_is_told_every_wait() -> None:
    told = Told((1.0, [WAITS]), (2.0, [STARTS, WAITS]), (3.0, [ENDS]))
    sent = [data async for data in encode(told.batches(), show_id, clock=told.clock)]
    assert b"".join(sent[1:]).decode().split() == ["7", "9", "7", "12"]


async def show_id(item: Item) -> bytes:
    return f"{item.id} ".encode()


class Connection:
    """One that asked for a stream. It takes what is sent when it may."""

    def __init__(self) -> None:
        self.content = b""
        self.offered = 0
        self.ended = False
        self.reading = asyncio.Event()
        self.reading.set()

    async def send(self, message: Any) -> None:
        if message["type"] != "http.response.body":
            return
        self.offered += 1
        await self.reading.wait()
        self.content += message.get("body", b"")
        self.ended = not message["more_body"]

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def serve(
        self, streams: OpenStreams, content: AsyncGenerator[bytes, None], credential: str | None = None
    ) -> None:
        async def begin() -> AsyncGenerator[bytes, None]:
            return content

        response = await streams.open(begin, tenant="acme", credential=credential)
        served = response.to_asgi_response(None, None)  # type: ignore[arg-type]  # it needs neither
        await served({"type": "http"}, self.receive, self.send)  # type: ignore[arg-type]  # nor more of a scope


class Nobody:
    """Nobody's credential is valid."""

    async def principal(self, credential: str | None) -> Principal:
        raise RequestError("unauthenticated", "revoked")

    async def refused(self, credentials: Collection[str | None]) -> list[str | None]:
        return list(credentials)


async def silent(closed: list[bool]) -> AsyncGenerator[bytes, None]:
    try:
        yield b"first;"
        await asyncio.Event().wait()
    finally:
        closed.append(True)


async def test_a_silent_stream_is_handed_over_at_its_age() -> None:
    closed: list[bool] = []
    connection, streams = Connection(), OpenStreams(limit=1, max_age=0.02)
    await connection.serve(streams, silent(closed))
    assert (connection.content, connection.ended) == (b"first;" + GOODBYE, True)
    assert (closed, streams.count) == ([True], 0)


async def test_a_stream_that_is_sending_is_handed_over_after_the_frame() -> None:
    closed: list[bool] = []
    connection, streams = Connection(), OpenStreams(limit=1, max_age=0.01)
    connection.reading.clear()
    serving = asyncio.create_task(connection.serve(streams, silent(closed)))
    await asyncio.sleep(0.03)
    assert (connection.content, serving.done()) == (b"", False)
    connection.reading.set()
    await serving
    assert (connection.content, connection.ended, closed) == (b"first;" + GOODBYE, True, [True])


async def test_a_client_that_takes_nothing_is_left_after_its_time() -> None:
    closed: list[bool] = []
    connection, streams = Connection(), OpenStreams(limit=1, send_timeout=0.02)
    connection.reading.clear()
    await connection.serve(streams, silent(closed))
    assert (connection.content, closed, streams.count) == (b"", [True], 0)


async def test_a_silent_client_that_took_everything_is_not_left() -> None:
    closed: list[bool] = []
    connection, streams = Connection(), OpenStreams(limit=1, send_timeout=0.002, max_age=0.05)
    await connection.serve(streams, silent(closed))
    assert connection.content == b"first;" + GOODBYE  # by its age, many times its time to receive


@pytest.mark.parametrize(("reads", "content"), [(True, b"first;" + REFUSED), (False, b"")])
async def test_a_stream_of_a_revoked_key_ends_whether_its_client_reads_or_not(reads: bool, content: bytes) -> None:
    closed: list[bool] = []
    revocations = Revocations(authentication=Nobody(), every=0.001)
    connection, streams = Connection(), OpenStreams(limit=1, revocations=revocations)
    if not reads:
        connection.reading.clear()
    serving = asyncio.create_task(connection.serve(streams, silent(closed), "revoked"))
    await until(lambda: connection.offered)
    watching = asyncio.create_task(revocations.serve())
    await asyncio.wait_for(serving, 20)
    watching.cancel()
    assert (connection.content, connection.ended, closed) == (content, reads, [True])
    assert streams.count == 0


async def test_a_stream_that_ends_by_itself_says_no_goodbye() -> None:
    async def short() -> AsyncGenerator[bytes, None]:
        yield b"all;"

    connection = Connection()
    await connection.serve(OpenStreams(limit=1, max_age=60.0), short())
    assert (connection.content, connection.ended) == (b"all;", True)
