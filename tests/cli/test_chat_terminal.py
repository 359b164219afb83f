"""The chat as a process in a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
import termios

import pytest

from tests.api.edge import listening, open_edge
from tests.scripted import ScriptedProvider, says


class Tty:
    """A chat in a terminal of its own."""

    def __init__(self, port: int) -> None:
        self.master, self._slave = pty.openpty()
        self.text = ""
        self._command = [sys.executable, "-m", "app", "chat", "--url", f"http://127.0.0.1:{port}"]

    async def start(self) -> asyncio.subprocess.Process:
        environ = {**os.environ, "TERM": "xterm"}
        self.before = termios.tcgetattr(self._slave)
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environ,
            start_new_session=True,
        )

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    async def until(self, text: str) -> None:
        """Wait until that is on the screen, and forget everything up to there."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while text not in self.text:
                data = await loop.run_in_executor(None, os.read, self.master, 4096)
                self.text += data.decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def restored(self) -> bool:
        return bool(termios.tcgetattr(self._slave) == self.before)

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_in_a_real_terminal(database: str, stop: signal.Signals) -> None:
    provider = ScriptedProvider(says("Pasted."))
    async with open_edge(database, provider) as edge, listening(edge.app) as port:
        terminal = Tty(port)
        process = await terminal.start()
        try:
            await terminal.until("\x1b[?2004h")
            terminal.type(b"\x1b[200~one\rtwo\x1b[201~\r")
            await terminal.until("thinking")
            await terminal.until("Pasted.")
            await terminal.until("\x1b[?2004h")
            terminal.type(b"half typed")
            await terminal.until("half typed")
            assert not terminal.restored()
            process.send_signal(stop)
            if stop == signal.SIGINT:
                await terminal.until("--session ses_")
            assert await process.wait() == 0
            assert terminal.restored()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            terminal.close()
        assert provider.requests[0].messages[-1].content == "one\ntwo"
