"""Ports for processes that are started again."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A TCP port that was free a moment ago, below those that outgoing connections get."""
    for port in random.sample(range(15000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
