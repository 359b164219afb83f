"""`steadyhand chat`: talk to an agent in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from io import TextIOWrapper
from typing import Any, Protocol

import msgspec

from app.cli.chat_approvals import Deciding, InputEnded
from app.cli.chat_input import Interrupted, Typed, signals
from app.cli.chat_screen import TICK, Screen
from app.cli.chat_service import ChatService, running_service
from app.cli.commands import DONE, FAILED
from app.cli.credentials import headers_of
from app.domain.errors import RequestError, SteadyhandError
from app.domain.events import RunWaiting
from app.runs.ids import new_id
from app.runs.stream import Item
from app.settings import secrets_of
from app.telemetry.logs import configure_logging
from app.workspace.load import SHIPPED, load_workspace

HELP = """\
/reset    forget what was said in this session
/help     these lines
/quit     end; so does Ctrl-D, and Ctrl-C where nothing is being answered
Ctrl-C    while an answer is coming: stop it"""


class Input(Protocol):
    """Where messages come from."""

    pressed: asyncio.Event

    async def line(self, prompt: str | None = None) -> str | None: ...


async def run(options: argparse.Namespace) -> int:
    """Talk until the person ends it: 0. From a pipe 1 where a message had no answer."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    configure_logging(level="warning", format="pretty")
    logging.getLogger("app.telemetry.runs").addFilter(_not_on_screen)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    screen = Screen(out=sys.stdout, errors=sys.stderr, environ=os.environ)
    typed = Typed(prompt=_prompt(screen), interactive=interactive)
    me = asyncio.current_task()
    assert me is not None
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        me.cancel()

    with signals(typed.pressed.set, terminate):
        try:
            answered = await _talk(options, screen, typed)
        except asyncio.CancelledError:
            if not terminated.is_set():
                raise
            me.uncancel()
            return DONE
        finally:
            screen.quiet()
    return DONE if answered or interactive else FAILED


async def _talk(options: argparse.Namespace, screen: Screen, typed: Typed) -> bool:
    session_id = options.session or new_id("ses")
    async with AsyncExitStack() as stack:
        service: ChatService
        if options.url is not None:
            service = await stack.enter_async_context(running_service(options.url, headers_of(options, os.environ)))
        else:
            screen.wait("starting")
            screen.tick()
            from app.cli.chat_own import own_service  # imports all of the service

            workspace = load_workspace(options.workspace, os.environ)
            os.environ.update(workspace.settings.dotenv)
            configure_logging(level="warning", format="pretty", secrets=secrets_of(workspace.settings, os.environ))
            service = await stack.enter_async_context(own_service(workspace))
            for text in (*workspace.settings.warnings, *workspace.settings.advice):
                screen.notice(text)
        chat = Chat(service=service, screen=screen, typed=typed, agent=options.agent, session_id=session_id)
        answered = await chat.run(known=options.session is not None)
        screen.notice(f"session {session_id}; go on with: {_again(options, session_id)}")
    return answered


def _not_on_screen(record: logging.LogRecord) -> bool:
    """That a run failed, or took long, the person sees; why a fault of ours happened only the log knows."""
    return record.exc_info is not None or record.msg not in ("agent_failed", "slow_response")


def _prompt(screen: Screen) -> str:
    """Marks what takes no room on the screen, as readline wants it."""
    painted = screen.painted("> ", "1;36")
    return painted.replace("\x1b[1;36m", "\x01\x1b[1;36m\x02").replace("\x1b[0m", "\x01\x1b[0m\x02")


def _again(options: argparse.Namespace, session_id: str) -> str:
    words = ["steadyhand", "chat", *([options.agent] if options.agent else [])]
    if options.url is not None:
        words += ["--url", options.url]
    elif options.workspace != SHIPPED:
        words += ["--workspace", str(options.workspace)]
    return shlex.join([*words, "--session", session_id])


class Chat:
    """One conversation: lines in, answers out, one after another."""

    def __init__(
        self, *, service: ChatService, screen: Screen, typed: Input, agent: str | None, session_id: str
    ) -> None:
        self._service = service
        self._screen = screen
        self._typed = typed
        self._agent = agent
        self._session_id = session_id
        self._deciding = Deciding(service=service, screen=screen, line=self._next_line)
        self._run_id: str | None = None
        self._failed = False

    async def run(self, *, known: bool) -> bool:
        """Talk until the input ends. Whether every message was answered. Raises where there is nobody to talk to."""
        who = await self._service.check(self._agent)
        self._screen.line(f"Talking to {who}. /help shows the commands.")
        count = await self._service.messages(self._session_id) if known else 0
        self._screen.notice(f"session {self._session_id}{f', {count} messages so far' if count else ''}")
        while True:
            if self._screen.live:
                self._screen.line()
            try:
                line = await self._next_line()
                text = None if line is None else line.strip()
                if text and not self._screen.live:
                    self._screen.line()
                if text in ("/quit", "/exit"):
                    return not self._failed
                if text:
                    await self._handle(text)
            except Interrupted:
                text = None
            if text is None:
                self._screen.line()
                return not self._failed

    async def _next_line(self, prompt: str | None = None) -> str | None:
        reading = asyncio.create_task(self._typed.line(prompt))
        try:
            waited: list[asyncio.Future[Any]] = [reading, self._service.lost]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self._screen.line()
                self._service.lost.result()
            return await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _handle(self, text: str) -> None:
        try:
            if text == "/help":
                self._screen.line(HELP)
            elif text == "/reset":
                await self._reset()
            elif text.startswith("/") and text[1:].isalpha():
                self._screen.error(f"there is no command {text}; /help shows those there are")
            else:
                await self._answer(text)
        except SteadyhandError as error:
            self._failed = True
            self._screen.error(str(error))

    async def _reset(self) -> None:
        try:
            await self._service.reset(self._session_id)
        except RequestError as error:
            if error.code != "not_found":
                raise
        self._screen.notice("this session begins anew")

    async def _answer(self, text: str) -> None:
        """Show the answer as it comes, ask for what the run waits for, or stop it at Ctrl-C. Raises what the service raises, and `Interrupted`."""
        self._run_id = None
        self._screen.begin()
        async with aclosing(self._service.ask(self._agent, self._session_id, text)) as items:
            try:
                while (waiting := await self._watched(items)) is not None:
                    for approval in waiting.approvals:
                        await self._deciding.decide(approval)
                    self._screen.wait("thinking")
            except InputEnded:
                self._failed = True
                self._screen.error(f"nobody is here to decide: run {self._run_id} waits")
            except Interrupted:
                await self._leave()
                raise

    async def _watched(self, items: AsyncGenerator[Item, None]) -> RunWaiting | None:
        """Show what comes, to the run's end (None) or until it waits; at Ctrl-C it is stopped."""
        self._typed.pressed.clear()
        pressed = asyncio.create_task(self._typed.pressed.wait())
        showing = asyncio.create_task(self._show(items))
        try:
            while not (pressed.done() or showing.done()):
                self._screen.tick()
                await asyncio.wait([pressed, showing], timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up = not showing.done()
            for task in (pressed, showing):
                task.cancel()
            await asyncio.wait([pressed, showing])
            self._screen.quiet()
        if given_up:
            await self._leave()
            return None
        return await showing

    async def _leave(self) -> None:
        self._screen.end_line()
        self._screen.notice(await self._service.leave())

    async def _show(self, items: AsyncGenerator[Item, None]) -> RunWaiting | None:
        async for item in items:
            if item.name == "run.created":
                self._run_id = msgspec.json.decode(item.payload)["run_id"]
            elif item.name == "run.finished":
                self._failed |= msgspec.json.decode(item.payload)["status"] != "succeeded"
            self._screen.show(item)
            if item.name == "run.waiting":
                return msgspec.json.decode(item.payload, type=RunWaiting)
        return None
