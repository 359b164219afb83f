"""A model provider that does what the test says: OpenAI Responses, OpenAI Chat Completions and Anthropic Messages over HTTP.

async with stand_in() as provider:
    provider.script("What is 6 times 7?", says(calls=[("c1", "calculator", '{"expression": "6*7"}')]), says("It is ", "42"))

Requests are told apart by the text of their last user message; the n-th request with that text gets its n-th reply. An
`asyncio.Event` among the pieces of a reply is waited for. Every request is kept, with what became of its caller. Instead of
a script, `replies` may answer by what a request holds; `watch` is told how far each reply is, and may end it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from tests.e2e.wires import Answer, ApiName, Reply, fails

PATHS: dict[str, ApiName] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/messages": "anthropic",
}


Stage = Literal["asked", "said"] | int
"""How far a reply is: nothing was said, so many of its pieces were, all of it was."""


class Call:
    """One request as it came. `left` is set when the caller closes its connection before the reply is whole.

    `peer` is the port that it came from, `at` the time (Unix seconds), `said` whether the whole reply was sent.
    """

    def __init__(self, *, api: ApiName, headers: dict[str, str], body: dict[str, Any], peer: int = 0) -> None:
        self.api = api
        self.headers = headers
        self.body = body
        self.peer = peer
        self.at = time.time()
        self.said = False
        self.left = asyncio.Event()

    @property
    def question(self) -> str:
        """The text of the last user message, without what stands before it in parts of its own."""
        return self.texts("user")[-1]

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["input" if self.api == "responses" else "messages"]
        return found

    @property
    def system(self) -> str:
        if self.api == "chat":
            return "\n".join(_text(m["content"]) for m in self.messages if m["role"] == "system")
        return _text(self.body.get("instructions" if self.api == "responses" else "system") or "")

    def texts(self, role: str) -> list[str]:
        """What that role said, in order."""
        said = [_text(m["content"]) for m in self.messages if m.get("role") == role and m.get("content")]
        return [text for text in said if text]

    @property
    def results(self) -> dict[str, str]:
        """Tool results by call id."""
        if self.api == "responses":
            return {m["call_id"]: m["output"] for m in self.messages if m.get("type") == "function_call_output"}
        if self.api == "chat":
            return {m["tool_call_id"]: m["content"] for m in self.messages if m["role"] == "tool"}
        return {part["tool_use_id"]: _text(part["content"]) for part in self._blocks("tool_result")}

    @property
    def calls(self) -> list[str]:
        """Ids of the tool calls that the history holds."""
        if self.api == "responses":
            return [m["call_id"] for m in self.messages if m.get("type") == "function_call"]
        if self.api == "chat":
            return [call["id"] for m in self.messages for call in m.get("tool_calls") or ()]
        return [part["id"] for part in self._blocks("tool_use")]

    @property
    def tool_choice(self) -> str:
        choice = self.body.get("tool_choice", "auto")
        return str(choice["type"] if isinstance(choice, dict) else choice)

    def _blocks(self, kind: str) -> list[dict[str, Any]]:
        parts = [part for m in self.messages if isinstance(m["content"], list) for part in m["content"]]
        return [part for part in parts if part["type"] == kind]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)


Replies = Callable[[Call], Reply | None]
Watch = Callable[[Call, Stage], Awaitable[bool]]
"""False: not a byte more, the connection closes."""


class StandIn:
    """The provider. `url` has no path: OpenAI's base URL is `url + "/v1"`, Anthropic's is `url`."""

    def __init__(self, *, replies: Replies | None = None, watch: Watch | None = None) -> None:
        self.url = ""
        self._replies = replies
        self._watch = watch
        self.calls: list[Call] = []
        self.unscripted: list[str] = []
        self._scripts: dict[str, list[Reply]] = {}
        self._arrived = asyncio.Condition()

    def script(self, question: str, *replies: Reply) -> None:
        """What requests with that question get, one after the other."""
        self._scripts.setdefault(question, []).extend(replies)

    def asked(self, question: str) -> list[Call]:
        return [call for call in self.calls if _matches(call.question, question)]

    async def wait(self, question: str, count: int = 1, within: float = 15.0) -> list[Call]:
        """The requests with that question, once there are so many."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked(question)) >= count)
        return self.asked(question)

    async def _reply(self, call: Call) -> Reply:
        async with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        for question, replies in self._scripts.items():
            if _matches(call.question, question) and replies:
                return replies.pop(0)
        if self._replies is not None and (reply := self._replies(call)) is not None:
            return reply
        self.unscripted.append(call.question)
        return fails(418)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            body = await reader.readexactly(int(headers["content-length"]))
            api = PATHS[line.split(" ")[1].partition("?")[0]]
            peer = writer.get_extra_info("peername")[1]
            call = Call(api=api, headers=headers, body=msgspec.json.decode(body), peer=peer)
            answer = (await self._reply(call))(api)
            sending = asyncio.create_task(self._say(writer, call, answer))
            gone = asyncio.create_task(_gone(reader, call, sending))
            try:
                await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
                if call.said:
                    await sending
            finally:
                gone.cancel()
                sending.cancel()
                await asyncio.gather(gone, sending, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller went away
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, call: Call, answer: Answer) -> None:
        async def goes_on(stage: Stage) -> bool:
            if self._watch is None:
                return True
            if stage != "said":  # by then the caller may be gone
                await writer.drain()
            return await self._watch(call, stage)

        if await goes_on("asked") and await _send(writer, answer, goes_on):
            call.said = True
            await goes_on("said")


def _matches(asked: str, question: str) -> bool:
    """A question with context comes with the context's text before it."""
    return asked == question or asked.endswith(f"\n{question}")


async def _gone(reader: asyncio.StreamReader, call: Call, sending: asyncio.Task[None]) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)
    if not sending.done():
        call.left.set()


async def _send(writer: asyncio.StreamWriter, answer: Answer, goes_on: Callable[[Stage], Awaitable[bool]]) -> bool:
    """Whether all of it was sent."""
    if answer.head is not None:
        await answer.head.wait()
    fields = {"Content-Type": answer.content_type, "Transfer-Encoding": "chunked", "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} Said", *(f"{k}: {v}" for k, v in (fields | answer.headers).items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    for said, piece in enumerate(answer.pieces, 1):
        if isinstance(piece, asyncio.Event):
            await writer.drain()
            await piece.wait()
        else:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not await goes_on(said):
            return False
    if answer.end == "whole":
        writer.write(b"0\r\n\r\n")
    if answer.end == "reset":
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return True


@asynccontextmanager
async def stand_in(*, replies: Replies | None = None, watch: Watch | None = None) -> AsyncIterator[StandIn]:
    """A provider on a free port."""
    provider = StandIn(replies=replies, watch=watch)
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(provider.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        for task in connections:
            task.cancel()
        broken = [e for e in await asyncio.gather(*connections, return_exceptions=True) if isinstance(e, Exception)]
    assert not broken, broken
