from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.network_guard import ReachedOut


async def test_the_loop_stays_on_this_machine() -> None:
    loop = asyncio.get_running_loop()
    for host in ("192.0.2.1", "api.example.com"):
        with pytest.raises(ReachedOut, match=host):
            await loop.create_connection(asyncio.Protocol, host, 443)
        with pytest.raises(ReachedOut, match=host):
            await loop.getaddrinfo(host, 443)
    with pytest.raises(ReachedOut):
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("192.0.2.1", 53))


async def test_loopback_is_open() -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
        writer.close()
        await writer.wait_closed()


def test_sockets_stay_on_this_machine() -> None:
    with socket.socket() as client:
        with pytest.raises(ReachedOut):
            client.connect(("192.0.2.1", 443))
        with pytest.raises(ReachedOut):
            client.connect_ex(("192.0.2.1", 443))
    with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(ReachedOut):
        client.sendto(b"", ("192.0.2.1", 53))
    with pytest.raises(ReachedOut):
        socket.getaddrinfo("api.example.com", 443)


def test_no_setting_of_the_machine_reaches_a_test() -> None:
    for name in (
        "DATABASE_URL",
        "REDIS_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "PGHOST",
    ):
        assert name not in os.environ
