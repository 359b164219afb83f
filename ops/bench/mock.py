"""A stand-in for an OpenAI Chat Completions server and an OTLP collector: one raw asyncio process, no parser beyond what is asked.

The model's name says how it behaves; streamed and plain requests are both answered, as their `stream` says.

    turn      the first call asks for the tool `add` with the two numbers of the last user message; a call whose last message is a
              tool's result answers with that result and with the number of messages it was given
    turn-N    the same, N milliseconds after the request
    plain     answers at once with the sum of the two numbers of the last user message
    stream    one token at once; then the stream is held open. `POST /control/pace` {tokens, per_second} makes every held stream send
              that many more at that pace, each at a phase of its own; `POST /control/finish` ends them all

A token is ` @HEX;` with HEX the microseconds of CLOCK_MONOTONIC at which it left, so that any process of this machine can tell its age.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from typing import Any, cast

import msgspec
import uvloop

LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)")
NUMBER = re.compile(r"-?\d+")
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SSE_END = b"data: [DONE]\n\n"
CHUNK = b'data: {"id":"%s","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n'
USAGE = b'{"prompt_tokens":50,"completion_tokens":10,"total_tokens":60}'
USAGE_CHUNK = (
    b'data: {"id":"%s","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],"usage":'
    + USAGE
    + b"}\n\n"
)
WHOLE = (
    b'{"id":"%s","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":%s,"finish_reason":"%s"}],"usage":'
    + USAGE
    + b"}"
)


class Note(msgspec.Struct):
    """A message of the request; `content` is text, a list of parts, or null."""

    role: str
    content: Any = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else msgspec.json.encode(self.content).decode()


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Call(msgspec.Struct):
    """What the mock reads of a Chat Completions request."""

    model: str
    messages: list[Note]
    stream: bool = False
    stream_options: StreamOptions | None = None


class Pace(msgspec.Struct):
    tokens: int
    per_second: float


class Board:
    """What the connections share: the streams that are held open, and the counters of `GET /control/stats`."""

    def __init__(self) -> None:
        self.held: dict[Connection, Call] = {}
        self.calls = 0
        self.aborted = 0
        self.otlp_requests = 0
        self.otlp_bytes = 0

    def stats(self) -> bytes:
        return msgspec.json.encode(
            {
                "held": len(self.held),
                "calls": self.calls,
                "aborted": self.aborted,
                "otlp_requests": self.otlp_requests,
                "otlp_bytes": self.otlp_bytes,
            }
        )


class Connection(asyncio.Protocol):
    """One HTTP/1.1 keep-alive connection; one request at a time, as HTTP clients send them."""

    def __init__(self, *, board: Board) -> None:
        self._board = board
        self._buffer = bytearray()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._board.held.pop(self, None) is not None:
            self._board.aborted += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            found = LENGTH.search(head)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[end + 4 : size])
            del self._buffer[:size]
            self._dispatch(head.split(b" ", 2)[1].rpartition(b"/v1/")[2] or head.split(b" ", 2)[1], body)

    def _dispatch(self, path: bytes, body: bytes) -> None:
        board = self._board
        if path == b"chat/completions":
            board.calls += 1
            self._complete(msgspec.json.decode(body, type=Call))
        elif path in (b"traces", b"metrics", b"logs"):
            board.otlp_requests += 1
            board.otlp_bytes += len(body)
            self._transport.write(JSON_HEAD % 0)
        elif path == b"/control/pace":
            pace = msgspec.json.decode(body, type=Pace)
            for connection in board.held:
                connection.pace(pace.tokens, 1 / pace.per_second)
            self._json(board.stats())
        elif path == b"/control/finish":
            held, board.held = board.held, {}
            for connection, call in held.items():
                connection.finish(call)
            self._json(board.stats())
        elif path == b"/control/stats":
            self._json(board.stats())
        else:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def _complete(self, call: Call) -> None:
        if call.model == "stream":
            self._board.held[self] = call
            first = CHUNK % (b"chatcmpl-s", b'{"role":"assistant","content":""}', b"null")
            self._transport.write(SSE_HEAD + framed(first))
            self._token()
            return
        delay = int(call.model.partition("-")[2] or 0) / 1000
        if delay:
            self._timer = self._loop.call_later(delay, self._turn, call)
        else:
            self._turn(call)

    def _turn(self, call: Call) -> None:
        identity = b"chatcmpl-%d" % self._board.calls
        last = call.messages[-1]
        if last.role == "tool" or call.model == "plain":
            numbers = NUMBER.findall(last.text)
            total = numbers and (sum(map(int, numbers[-2:])) if call.model == "plain" else numbers[0])
            words = f"The sum is {total or '?'} after {len(call.messages)} messages.".split(" ")
            pieces = [
                b'{"content":%s}' % msgspec.json.encode(word if n == 0 else " " + word) for n, word in enumerate(words)
            ]
            message = b'{"role":"assistant","content":%s}' % msgspec.json.encode(" ".join(words))
            stop = b"stop"
        else:
            asked = next(note.text for note in reversed(call.messages) if note.role == "user")
            left, right = NUMBER.findall(asked)[:2]
            text = msgspec.json.encode(f'{{"a": {left}, "b": {right}}}')
            tool = b'"id":"call_%d","type":"function","function":{"name":"add","arguments":%%s}}' % self._board.calls
            pieces = [
                b'{"tool_calls":[{"index":0,' + tool % b'""' + b"]}",
                b'{"tool_calls":[{"index":0,"function":{"arguments":%s}}]}' % text,
            ]
            message = b'{"role":"assistant","content":null,"tool_calls":[{' + tool % text + b"]}"
            stop = b"tool_calls"
        if not call.stream:
            self._json(WHOLE % (identity, message, stop))
            return
        frames = [CHUNK % (identity, b'{"role":"assistant","content":null}', b"null")]
        frames += [CHUNK % (identity, piece, b"null") for piece in pieces]
        self._transport.write(SSE_HEAD + framed(b"".join(frames) + ending(call, identity, stop)) + b"0\r\n\r\n")

    def pace(self, tokens: int, interval: float) -> None:
        """From now on `tokens` tokens leave, `interval` seconds apart, the first within one interval."""
        self._step(self._loop.time() + random.random() * interval, tokens, interval)

    def _step(self, due: float, left: int, interval: float) -> None:
        if left:
            self._timer = self._loop.call_at(due, self._tick, due, left, interval)

    def _tick(self, due: float, left: int, interval: float) -> None:
        self._token()
        self._step(due + interval, left - 1, interval)

    def _token(self) -> None:
        token = b'{"content":" @%x;"}' % (time.monotonic_ns() // 1000)
        self._transport.write(framed(CHUNK % (b"chatcmpl-s", token, b"null")))

    def finish(self, call: Call) -> None:
        """The held stream ends as an answer does."""
        self._transport.write(framed(ending(call, b"chatcmpl-s", b"stop")) + b"0\r\n\r\n")

    def _json(self, body: bytes) -> None:
        self._transport.write(JSON_HEAD % len(body) + body)


def framed(data: bytes) -> bytes:
    """`data` as one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def ending(call: Call, identity: bytes, stop: bytes) -> bytes:
    """The last frames of a streamed answer."""
    usage = USAGE_CHUNK % identity if call.stream_options is not None and call.stream_options.include_usage else b""
    return CHUNK % (identity, b"{}", b'"%s"' % stop) + usage + SSE_END


async def serve(port: int) -> None:
    """Answers on 127.0.0.1:port until the process is ended."""
    board = Board()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(board=board), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
