"""What a person types: lines of a terminal with editing, or of a pipe. And Ctrl-C, which belongs to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Interrupted(Exception):
    """Ctrl-C instead of a line."""


class Typed:
    """Reads lines in a thread of its own, so that the loop goes on; `pressed` is set by Ctrl-C.

    A read that is given up keeps its thread until the process ends: use the object no more after that.
    """

    def __init__(self, *, prompt: str, interactive: bool) -> None:
        self.pressed = asyncio.Event()
        self._prompt = prompt
        self._interactive = interactive
        self._pipe = None if interactive else open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        if interactive:
            _line_editing()

    async def line(self, prompt: str | None = None) -> str | None:
        """The next line, or several that were pasted at once; None at the end. Raises `Interrupted`."""
        loop = asyncio.get_running_loop()
        read: asyncio.Future[str | None] = loop.create_future()

        def tell(line: str | None, error: Exception | None) -> None:
            if not read.done():
                read.set_exception(error) if error is not None else read.set_result(line)

        def work() -> None:
            line, failed = None, None
            try:
                line = self._read(self._prompt if prompt is None else prompt)
            except Exception as error:  # noqa: BLE001  # raised in the loop
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(tell, line, failed)

        self.pressed.clear()
        with _terminal_restored(self._interactive):
            # A daemon: nothing but the end of the process gets a thread out of a read.
            threading.Thread(target=work, name="input", daemon=True).start()
            interrupted = asyncio.create_task(self.pressed.wait())
            try:
                waited: list[asyncio.Future[Any]] = [read, interrupted]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            finally:
                interrupted.cancel()
                if not read.done():
                    read.cancel()
        if read.cancelled():
            raise Interrupted
        return read.result()

    def _read(self, prompt: str) -> str | None:
        if self._pipe is not None:
            data = self._pipe.readline()
            return data.decode(errors="replace").rstrip("\r\n") if data else None
        try:
            return input(prompt)
        except EOFError:
            return None


def _line_editing() -> None:
    try:
        import readline
    except ImportError:  # Windows
        return
    # A paste of several lines is then one message, and a tab in it is a tab.
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.parse_and_bind("set disable-completion on")


@contextlib.contextmanager
def _terminal_restored(interactive: bool) -> Iterator[None]:
    """At the end the terminal is as it was, also where line editing was left in the middle."""
    if not interactive or sys.platform == "win32":
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        yield
    finally:
        if termios.tcgetattr(terminal) != before:
            os.write(sys.stdout.fileno(), b"\x1b[?2004l")
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def signals(interrupted: Callable[[], None], terminated: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call these, on the loop, for the time of the block."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for number, handler in ((signal.SIGINT, interrupted), (signal.SIGTERM, terminated)):
            try:
                loop.add_signal_handler(number, handler)
                stack.callback(loop.remove_signal_handler, number)
            except NotImplementedError:  # Windows
                before = signal.signal(number, lambda *_, call=handler: loop.call_soon_threadsafe(call))
                stack.callback(signal.signal, number, before)
        yield
