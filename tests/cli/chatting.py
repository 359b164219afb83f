"""What tests of the chat share: a person who types, a screen to read, a proxy that cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import msgspec

from app.cli.chat import Chat
from app.cli.chat_screen import Screen
from app.cli.chat_service import ChatService, Choice
from app.domain import events as ev
from app.domain.approvals import Grounds, PendingApproval, Source
from app.domain.errors import RequestError
from app.runs.stream import Item


class Terminal(StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Lines:
    """What the person types; an exception is raised in its place, None ends. `pressed` is Ctrl-C."""

    def __init__(self, *lines: str | Exception | None) -> None:
        self.pressed = asyncio.Event()
        self.prompts: list[str] = []
        self._lines = list(lines)

    async def line(self, prompt: str | None = None) -> str | None:
        line = self._lines.pop(0) if self._lines else None
        if prompt is not None:
            self.prompts.append(prompt)
        if isinstance(line, Exception):
            raise line
        return line


class Scripted:
    """A service whose runs are these items; an event among them is waited for. `said` is what it was told."""

    def __init__(self, *items: Item | asyncio.Event, refuse: RequestError | None = None) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.said: list[Any] = []
        self._items = items
        self._refusals = [] if refuse is None else [refuse]

    async def check(self, agent: str | None) -> str:
        return "a script"

    async def messages(self, session_id: str) -> int:
        return 0

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        for one in self._items:
            if isinstance(one, asyncio.Event):
                await one.wait()
            else:
                yield one

    async def decide(self, approval_id: str, decision: Choice, arguments: Any, comment: str | None) -> None:
        self.said.append((approval_id, decision, arguments, comment))
        if self._refusals:
            raise self._refusals.pop()

    async def leave(self) -> str:
        self.said.append("leave")
        return "stopped"

    async def reset(self, session_id: str) -> None:
        self.said.append("reset")


def plain_screen() -> tuple[Screen, StringIO, StringIO]:
    out, errors = StringIO(), StringIO()
    return Screen(out=out, errors=errors, environ={}), out, errors


def item(name: str, event: Any) -> Item:
    return Item(None, name, msgspec.json.encode(event))


def delta(message_id: str, offset: int, text: str) -> Item:
    return item("message.delta", ev.MessageDelta(message_id=message_id, offset=offset, text=text))


def finished(status: Any = "succeeded", output: Any = None, **more: Any) -> Item:
    fields = {"stop_reason": "completed", "usage": None, "cost_usd": None, "iterations": 1} | more
    return item("run.finished", ev.RunFinished(status=status, output=output, **fields))


def created() -> Item:
    event = ev.RunCreated(run_id="run_1", session_id="s1", agent="a", agent_version="v", message_id="m0", input="hi")
    return item("run.created", event)


def approval(name: str = "pay", arguments: Any = None, *, id: str = "apr_1", call_id: str = "c1") -> PendingApproval:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    return PendingApproval(id=id, call_id=call_id, name=name, arguments=arguments, risk="high", expires_at=until)


def grounds(*tools: str, more: int = 0) -> Grounds:
    results = tuple(Source(call_id=f"r{n}", tool=tool) for n, tool in enumerate(tools))
    return Grounds(reason="Because of its risk.", auto_approve="low", message_id="m0", results=results, more=more)


def waiting(*approvals: PendingApproval) -> list[Item]:
    requested = [item("approval.requested", ev.ApprovalRequested(approval=one, digest="d")) for one in approvals]
    return [*requested, item("run.waiting", ev.RunWaiting(stop_reason="approval_required", approvals=approvals))]


def ended(call_id: str, status: Any, result: bytes) -> Item:
    event = ev.ToolFinished(call_id=call_id, name="pay", status=status, result=msgspec.Raw(result))
    return item("tool.finished", event)


def message(text: str) -> Item:
    return item(
        "message.completed", ev.MessageCompleted(message=ev.VisibleMessage(id="m", role="assistant", content=text))
    )


def shown(items: Sequence[Item], screen: Screen) -> None:
    screen.begin()
    for one in items:
        screen.show(one)


async def talk(service: ChatService, *lines: str | Exception | None, agent: str | None = None) -> tuple[bool, str, str]:
    screen, out, errors = plain_screen()
    chat = Chat(service=service, screen=screen, typed=Lines(*lines), agent=agent, session_id="s1")
    answered = await chat.run(known=False)
    return answered, out.getvalue(), errors.getvalue()


class CuttingProxy:
    """Forwards to a port, and cuts each connection right after the next of `marks` went to the client."""

    def __init__(self, port: int, marks: Sequence[tuple[bytes, asyncio.Event]], reading: asyncio.Event) -> None:
        self._port = port
        self._marks = list(marks)
        self._reading = reading
        self.last_ids: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, forward = await asyncio.open_connection("127.0.0.1", self._port)
        tasks = [asyncio.create_task(self._up(reader, forward)), asyncio.create_task(self._down(behind, writer))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, forward):
            end.close()

    async def _up(self, reader: asyncio.StreamReader, forward: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if data.startswith(b"GET /v1/runs"):
                ids = [line for line in data.decode().lower().split("\r\n") if line.startswith("last-event-id:")]
                self.last_ids.append(ids[0].split()[1] if ids else "")
                self._reading.set()
            forward.write(data)
            await forward.drain()

    async def _down(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await behind.read(65536):
            writer.write(data)
            await writer.drain()
            if self._marks and self._marks[0][0] in data:
                self._marks.pop(0)[1].set()
                return


@asynccontextmanager
async def cutting(
    port: int, marks: Sequence[tuple[bytes, asyncio.Event]], reading: asyncio.Event
) -> AsyncIterator[Any]:
    proxy = CuttingProxy(port, marks, reading)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
