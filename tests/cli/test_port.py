"""A port belongs to one process."""

from __future__ import annotations

import os
import socket

import pytest

from app.cli.port import PortTaken, check_free, listen


def test_a_port_is_listened_on_once() -> None:
    with listen("127.0.0.1", 0, 8) as held:
        port = held.getsockname()[1]
        for taking in (lambda: listen("127.0.0.1", port, 8), lambda: check_free("127.0.0.1", port)):
            with pytest.raises(PortTaken) as refused:
                taking()
            assert str(refused.value).startswith(f"cannot listen on 127.0.0.1:{port}: ")
            if os.path.exists("/proc/net/tcp"):
                assert f"by process {os.getpid()} (" in str(refused.value)
    check_free("127.0.0.1", port)
    listen("127.0.0.1", port, 8).close()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="there is nothing that could be shared")
def test_a_port_is_not_shared_with_who_would_share_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen(8)
        with pytest.raises(PortTaken):
            listen("127.0.0.1", other.getsockname()[1], 8)
    with listen("127.0.0.1", 0, 8) as held, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match=r".*"):
            other.bind(held.getsockname())


def test_who_comes_between_the_check_and_the_start_is_found() -> None:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        check_free("127.0.0.1", port)
        bound.listen(8)
        with pytest.raises(PortTaken):
            listen("127.0.0.1", port, 8)
