"""The load generator: one job on the command line (JSON), one result on standard output (JSON), in a process of its own.

It also reads the server's CPU clock, because only it knows when the measured part begins and ends.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from array import array
from collections.abc import Awaitable, Callable

import msgspec
import uvloop

from ops.bench.processes import cpu_seconds, rss_mib

ANSWER = re.compile(rb"The sum is (-?\d+) after (\d+) messages")
QUEUED = re.compile(rb'"queue_ms":([0-9.e-]+)')
STAMP = re.compile(rb"@([0-9a-f]{6,16});")
OPENING = 50  # streams that may be on their way to their first token at once
SETTLE = 1.5  # seconds in which a server ends what it left for later (spans leave every second, see `stack.ours_environment`)
STALL = 30.0  # seconds without a token after which the streams count as stuck


class Turns(msgspec.Struct, tag="turns", kw_only=True):
    """`users` clients post one message after another until each session named here had one turn (a name may come several times)."""

    port: int
    pid: int
    agent: str
    users: int
    sessions: list[str]


class Streams(msgspec.Struct, tag="streams", kw_only=True):
    """`streams` answers are opened and held, then all send `tokens` tokens each at `per_second`, then all end."""

    port: int
    pid: int
    mock_port: int
    streams: int
    tokens: int
    per_second: float
    session: str


class TurnsResult(msgspec.Struct, kw_only=True):
    """`cpu`: seconds, less what the server does anyway (`idle`: CPU seconds per second, before the job).

    `milliseconds`: of each turn, sorted; `queued`: of each run's wait for its owner, sorted, where the service tells it. `messages`: the most that a model call was given. `failures`: the first ones, in words.
    """

    seconds: float
    cpu: float
    idle: float
    milliseconds: list[float]
    queued: list[float]
    messages: int
    failed: int
    failures: list[str]


class StreamsResult(msgspec.Struct, kw_only=True):
    """`cpu`, `seconds` and `lags` (µs, sorted percentiles p50 and p99) of the paced part alone; `rss` (MiB) with all streams open."""

    seconds: float
    cpu: float
    tokens: int
    lag_p50: float
    lag_p99: float
    rss: float
    failed: int
    failures: list[str]


class Client:
    """One keep-alive HTTP/1.1 connection to 127.0.0.1:port."""

    def __init__(self, *, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: object) -> tuple[int, bytes]:
        """Status and whole body of the answer."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(request(path, body, keep=True))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" not in head:
            size = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]  # one of the two is always there
            return status, await self._reader.readexactly(size)
        pieces = []
        while size := int(await self._reader.readline(), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return status, b"".join(pieces)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()


def request(path: str, body: object, *, keep: bool) -> bytes:
    """The bytes of a POST."""
    data = msgspec.json.encode(body)
    return (
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n"
        % (path.encode(), len(data), b"keep-alive" if keep else b"close")
        + data
    )


async def turns(job: Turns) -> TurnsResult:
    """Every turn was posted and its answer compared with the sum that was asked for."""
    waiting = list(reversed(job.sessions))
    milliseconds: list[float] = []
    queued: list[float] = []
    failures: list[str] = []
    most = 0

    async def user() -> None:
        nonlocal most
        client = Client(port=job.port)
        while waiting:
            session = waiting.pop()
            a, b = random.randrange(10_000), random.randrange(10_000)
            begin = time.perf_counter()
            status, body = await client.post(
                "/chat", {"message": f"What is {a} + {b}?", "session_id": session, "agent": job.agent}
            )
            milliseconds.append((time.perf_counter() - begin) * 1000)
            found = ANSWER.search(body)
            if (wait := QUEUED.search(body)) is not None:
                queued.append(float(wait[1]))
            if status != 200 or found is None or int(found[1]) != a + b:
                failures.append(f"{a} + {b}: {status} {body[:300].decode(errors='replace')}")
            else:
                most = max(most, int(found[2]))
        await client.close()

    # What earlier jobs left behind is not this one's; what this one leaves is; what the server does anyway is nobody's.
    await asyncio.sleep(SETTLE)
    idle = -cpu_seconds(job.pid)
    await asyncio.sleep(SETTLE)
    idle += cpu_seconds(job.pid)
    cpu, begin = cpu_seconds(job.pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(job.users):
            group.create_task(user())
    seconds = time.perf_counter() - begin
    await asyncio.sleep(SETTLE)
    return TurnsResult(
        seconds=seconds,
        cpu=cpu_seconds(job.pid) - cpu - idle,
        idle=idle / SETTLE,
        milliseconds=sorted(milliseconds),
        queued=sorted(queued),
        messages=most,
        failed=len(failures),
        failures=failures[:2],
    )


class Listener(asyncio.Protocol):
    """One open answer: reads the age of every token that arrives while `lags` is set."""

    def __init__(self, *, first: Callable[[], None], token: Callable[[int], None]) -> None:
        self.done = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.head = b""
        self._first: Callable[[], None] | None = first
        self._token = token
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() // 1000
        self.head = self.head or data[:1000]
        text = self._rest + data
        end = 0
        for found in STAMP.finditer(text):
            end = found.end()
            if self._first is not None:
                self._first()
                self._first = None
            else:
                self._token(now - int(found[1], 16))
        self.done = self.done or b"event: done" in text
        self._rest = text[max(end, len(text) - 20) :]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def streams(job: Streams) -> StreamsResult:
    """All streams were open at once, got all their tokens, and ended with a `done` event; those that did not are counted."""
    loop = asyncio.get_running_loop()
    listeners: list[Listener] = []
    failures: list[str] = []
    lags = array("q")
    opening = asyncio.Semaphore(OPENING)
    mock = Client(port=job.mock_port)

    async def open_one(number: int) -> None:
        async with opening:
            first = asyncio.Event()
            transport, listener = await loop.create_connection(
                lambda: Listener(first=first.set, token=lags.append), "127.0.0.1", job.port
            )
            listeners.append(listener)
            body = {"message": "Count.", "session_id": f"{job.session}-{number}", "agent": "stream"}
            transport.write(request("/chat/stream", body, keep=False))
            opened = asyncio.ensure_future(first.wait())
            await asyncio.wait((opened, listener.closed), timeout=STALL, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                opened.cancel()
                answer = listener.head.partition(b"\r\n\r\n")[2] or listener.head
                failures.append(f"stream {number} did not open: {answer.decode(errors='replace')}")

    async with asyncio.TaskGroup() as group:
        for number in range(job.streams):
            group.create_task(open_one(number))
    rss = rss_mib(job.pid)
    wanted = (job.streams - len(failures)) * job.tokens
    await asyncio.sleep(SETTLE)
    cpu, begin = cpu_seconds(job.pid), time.perf_counter()
    await mock.post("/control/pace", {"tokens": job.tokens, "per_second": job.per_second})
    await arrived(lags, wanted)
    seconds, cpu, received = time.perf_counter() - begin, cpu_seconds(job.pid) - cpu, array("q", sorted(lags))
    if len(received) != wanted:
        failures.append(f"{len(received)} of {wanted} tokens arrived")
    await mock.post("/control/finish", {})
    await asyncio.wait([listener.closed for listener in listeners], timeout=300)
    unfinished = sum(not listener.done for listener in listeners)
    if unfinished:
        failures.append(f"{unfinished} of {job.streams} streams ended without a done event")
    await mock.close()
    return StreamsResult(
        seconds=seconds,
        cpu=cpu,
        tokens=len(received),
        lag_p50=percentile(received, 0.50) / 1000,
        lag_p99=percentile(received, 0.99) / 1000,
        rss=rss,
        failed=len(failures),
        failures=failures[:2],
    )


async def arrived(lags: array[int], wanted: int) -> None:
    """`wanted` tokens are here, or none came for a long while."""
    seen, progress = 0, time.monotonic()
    while len(lags) < wanted and time.monotonic() < progress + STALL:
        if len(lags) > seen:
            seen, progress = len(lags), time.monotonic()
        await asyncio.sleep(0.02)


def percentile(ordered: list[float] | array[int], share: float) -> float:
    """Nearest rank of an ordered, non-empty sequence; 0 of an empty one."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))]) if ordered else 0.0


RUN: dict[type, Callable[..., Awaitable[msgspec.Struct]]] = {Turns: turns, Streams: streams}


async def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Turns | Streams)
    sys.stdout.buffer.write(msgspec.json.encode(await RUN[type(job)](job)))


if __name__ == "__main__":
    uvloop.run(main())
