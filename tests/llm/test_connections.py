"""Real sockets through the SDKs' own HTTP client: reuse, closing, and the ways a connection fails."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import httpx2
import pytest

from app.domain.errors import ProviderError
from app.domain.messages import Api
from app.domain.models import Completed, Recorder, TextDelta
from app.llm.providers import ModelProvider, open_provider
from app.llm.router import Route, Router
from tests.llm.messages import REQUEST
from tests.llm.server import END, HEAD, Connection, chunk, model_server
from tests.llm.targets import Gate
from tests.llm.test_streams import expect_tool_turn, stream
from tests.llm.wire import API_NAMES, Script, Served, ask, attempt, collect, provider

each_api = pytest.mark.parametrize("api", API_NAMES)


@asynccontextmanager
async def connected(api: Api, url: str) -> AsyncIterator[ModelProvider]:
    kind: Literal["anthropic", "openai"] = "anthropic" if api == "anthropic-messages" else "openai"
    opened = open_provider(
        name=kind,
        kind=kind,
        api="responses" if api == "openai-responses" else None,
        api_key="k",
        base_url=url,
        own_host=False,
    )
    try:
        yield opened
    finally:
        await opened.aclose()


class EndsLater(httpx2.AsyncByteStream):
    """A body that is there but for its end, which comes when `end` is set."""

    def __init__(self, body: bytes) -> None:
        self.end = asyncio.Event()
        self.ended = self.closed = False
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
        await self.end.wait()
        self.ended = True

    async def aclose(self) -> None:
        self.closed = True


def until_text(api: Api) -> bytes:
    frames = stream(api).split(b"\n\n")
    last = next(n for n, frame in enumerate(frames) if "Größe".encode() in frame)
    return b"\n\n".join(frames[: last + 1]) + b"\n\n"


@each_api
async def test_a_connection_serves_the_next_call(api: Api) -> None:
    async def answer(connection: Connection) -> None:
        await connection.send(HEAD + chunk(stream(api)))
        await connection.send(END)

    async with model_server(answer) as server, connected(api, server.url) as opened:
        for _ in range(3):
            expect_tool_turn(api, await ask(opened))
    assert (server.requests, server.connections) == (3, 1)


@each_api
async def test_a_connection_whose_body_ends_later_serves_the_next_call(api: Api) -> None:
    answered = asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.send(HEAD + chunk(stream(api)))
        await answered.wait()
        await connection.send(END)

    async with model_server(answer) as server, connected(api, server.url) as opened:
        expect_tool_turn(api, await ask(opened))
        draining = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_drain"]
        answered.set()
        await asyncio.gather(*draining)
        expect_tool_turn(api, await ask(opened))
    assert len(draining) == 1
    assert (server.requests, server.connections) == (2, 1)


@each_api
async def test_an_answer_whose_body_never_ends_is_still_an_answer(api: Api) -> None:
    gone = asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.send(HEAD + chunk(stream(api)))
        await connection.left()
        gone.set()

    async with model_server(answer) as server, connected(api, server.url) as opened:
        expect_tool_turn(api, await ask(opened))
        assert not gone.is_set()
        async with asyncio.timeout(5):
            await gone.wait()


@each_api
async def test_nothing_is_awaited_after_the_answer(api: Api) -> None:
    """Whoever is stopped the moment the answer is whole still has it: no await is left in which a stop could meet it."""
    body = EndsLater(stream(api))
    recorder = Recorder()
    kept: list[Completed] = []
    async with provider(api, Script(Served(body))) as opened:
        router = Router(routes={"default": Route(targets=(opened.target("m"),))}, breakers=Gate())

        async def call() -> None:
            completed: Completed | None = None
            async with aclosing(router.stream(REQUEST, recorder)) as chunks:
                async for part in chunks:
                    if isinstance(part, Completed):
                        completed = part
                        task.cancel()
            assert completed is not None
            kept.append(completed)

        task = asyncio.create_task(call())
        with pytest.raises(asyncio.CancelledError):
            await task
        expect_tool_turn(api, kept[0])
        (tried,) = recorder.attempts
        assert (tried.outcome, body.ended, body.closed) == ("ok", False, False)
        assert tried.ended is not None
        body.end.set()
    assert (body.ended, body.closed) == (True, True)


@each_api
async def test_closing_the_stream_closes_the_socket(api: Api) -> None:
    gone = asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.send(HEAD + chunk(until_text(api)))
        await connection.left()
        gone.set()

    async with model_server(answer) as server, connected(api, server.url) as opened:
        router = Router(routes={"default": Route(targets=(opened.target("m"),))}, breakers=Gate())
        recorder = Recorder()
        chunks = router.stream(REQUEST, recorder)
        async for part in chunks:
            if isinstance(part, TextDelta):
                break
        await chunks.aclose()
        async with asyncio.timeout(5):
            await gone.wait()
    (tried,) = recorder.attempts
    assert tried.outcome == "cancelled"
    assert tried.first_token is not None
    assert tried.ended is not None


@each_api
@pytest.mark.parametrize("head", [b"", HEAD], ids=["before the answer", "inside the answer"])
async def test_cancelling_closes_the_socket(api: Api, head: bytes) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.send(head)
        asked.set()
        await connection.left()
        gone.set()

    async with model_server(answer) as server, connected(api, server.url) as opened:
        router = Router(routes={"default": Route(targets=(opened.target("m"),))}, breakers=Gate())
        recorder = Recorder()
        task = asyncio.create_task(collect(router.stream(REQUEST, recorder)))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await gone.wait()
    assert recorder.attempts[0].outcome == "cancelled"


@each_api
async def test_a_timeout_closes_the_socket(api: Api) -> None:
    gone = asyncio.Event()

    async def answer(connection: Connection) -> None:
        await connection.send(HEAD + chunk(until_text(api)))
        await connection.left()
        gone.set()

    async with model_server(answer) as server, connected(api, server.url) as opened:
        route = Route(targets=(opened.target("m"),), idle_timeout=0.05, on_midstream="error")
        router = Router(routes={"default": route}, breakers=Gate())
        with pytest.raises(ProviderError) as failure:
            await collect(router.stream(REQUEST, Recorder()))
        assert failure.value.kind == "idle_timeout"
        async with asyncio.timeout(5):
            await gone.wait()


@each_api
@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "connect"),
        (b"HTTP/1.1 nonsense\r\n\r\n", "connect"),
        (HEAD, "stream_broken"),
        (HEAD + b"5\r\nda", "stream_broken"),
        (HEAD + b"nonsense\r\n", "connect"),  # in one packet with the head: the client never hands out the answer
        (
            HEAD.replace(b"chunked", b"chunked\r\ncontent-encoding: gzip") + chunk(b"data: no gzip") + END,
            "stream_broken",
        ),
        (HEAD.replace(b"200 OK", b"500 Oops") + b"ff\r\nda", "connect"),
    ],
)
async def test_a_connection_that_is_cut(api: Api, sent: bytes, kind: str) -> None:
    async def answer(connection: Connection) -> None:
        await connection.send(sent)
        connection.writer.close()

    async with model_server(answer) as server, connected(api, server.url) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert failure.value.kind == kind
    assert server.requests == 1


@each_api
async def test_nobody_listens(api: Api) -> None:
    async def never(connection: Connection) -> None:
        raise AssertionError

    async with model_server(never) as server:
        url = server.url
    async with connected(api, url) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert (failure.value.kind, failure.value.status) == ("connect", None)


async def test_many_streams_at_once() -> None:
    """The pool has no limit of its own that a full house would reach: 300 streams are open before one ends."""
    api: Api = "openai-chat"
    count = 300
    open_streams = 0
    all_open = asyncio.Event()

    async def answer(connection: Connection) -> None:
        nonlocal open_streams
        open_streams += 1
        if open_streams == count:
            all_open.set()
        await all_open.wait()
        await connection.send(HEAD + chunk(stream(api)) + END)

    async with model_server(answer) as server, connected(api, server.url) as opened:
        target = opened.target("m")
        async with asyncio.timeout(30):
            await asyncio.gather(*(collect(target.stream(REQUEST, attempt())) for _ in range(count)))
    assert server.connections == count


@each_api
async def test_a_server_that_takes_no_key_gets_none(api: Api) -> None:
    script = Script(Served(stream(api)))
    kind: Literal["anthropic", "openai"] = "anthropic" if api == "anthropic-messages" else "openai"
    opened = open_provider(
        name="local",
        kind=kind,
        api="responses" if api == "openai-responses" else None,
        api_key=None,
        base_url="http://local.test",
        own_host=False,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(script)),
    )
    await ask(opened)
    await opened.aclose()
    assert not {"authorization", "x-api-key"} & set(script.requests[0].headers)


def test_the_sdks_are_not_imported_before_they_are_used() -> None:
    code = (
        "import sys, app.llm.router, app.llm.providers;"
        "open = app.llm.providers.open_provider;"
        "open(name='x', kind='openai', api_key='k', base_url=None).target('m');"
        "open(name='x', kind='anthropic', api_key='k', base_url=None).target('m');"
        "print(sorted({'openai', 'anthropic', 'httpx2', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
