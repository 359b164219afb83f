"""When a process that serves is to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


class Stopping:
    """When to stop: a signal; and a second Ctrl-C, or one after SIGTERM, for a stop without patience."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.at_once = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        self._cancelled: asyncio.Task[object] | None = None

    @contextlib.contextmanager
    def cancels(self) -> Iterator[None]:
        """A stop that begins within the block cancels the task that is in it."""
        self._starting = asyncio.current_task()
        try:
            yield
        finally:
            self._starting = None

    def cancelled(self) -> bool:
        """Whether a stop has cancelled this task, which is then over."""
        if self._cancelled is None:
            return False
        self._cancelled.uncancel()
        return True

    def on_signals(self) -> contextlib.ExitStack:
        """SIGTERM and SIGINT begin the stop for the time of the block. A second SIGTERM changes nothing."""
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._begin,
            signal.SIGINT: self._interrupted,
        }
        loop = asyncio.get_running_loop()
        stack = contextlib.ExitStack()
        for number, handler in handlers.items():
            try:
                loop.add_signal_handler(number, handler)
                stack.callback(loop.remove_signal_handler, number)
            except NotImplementedError:  # Windows
                before = signal.signal(number, lambda *_, call=handler: loop.call_soon_threadsafe(call))
                stack.callback(signal.signal, number, before)
        return stack

    def _begin(self) -> None:
        self.begun.set()
        if self._starting is not None:
            self._cancelled, self._starting = self._starting, None
            self._cancelled.cancel()

    def _interrupted(self) -> None:
        if self.begun.is_set():
            self.at_once.set()
        self._begin()
