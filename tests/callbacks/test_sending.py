"""What may happen on the way to a receiver, and at it."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from app.domain.callbacks import Callback
from app.egress.addresses import is_public
from tests.callbacks.conftest import World, a_sender, serving
from tests.callbacks.receiver import Receiver


def delivered(callback: Callback) -> bool:
    return callback.status == "delivered"


def failed(callback: Callback) -> bool:
    return callback.status == "failed"


async def test_time_is_up(world: World, receiver: Receiver) -> None:
    async def drips(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-Drop: 1\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    receiver.always = drips
    await world.run(receiver.url)
    deliveries = world.deliveries(max_attempts=1, sender=a_sender(time_limit=0.3))
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert callback.data[0].error == "no answer within 0.3 s"
    assert callback.data[0].duration_ms > 250  # a timer of the loop may be a little early


async def test_a_huge_answer_is_left_unread(world: World, receiver: Receiver) -> None:
    sent = 0

    async def floods(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    receiver.always = floods
    await world.run(receiver.url)
    deliveries = world.deliveries()
    async with serving(deliveries):
        await world.until(deliveries, delivered)
    assert sent < 50_000_000  # what the machine's socket buffers hold


async def test_an_answer_whose_body_never_ends_counts(world: World, receiver: Receiver) -> None:
    async def stalls(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await writer.drain()
        await left.wait()

    left = asyncio.Event()
    receiver.always = stalls
    await world.run(receiver.url)
    deliveries = world.deliveries(sender=a_sender(time_limit=0.9))  # which ends while the body is read
    async with serving(deliveries):
        callback = await world.until(deliveries, delivered)
    assert callback.data[0].duration_ms < 900
    left.set()


async def test_private_addresses_are_refused_at_each_connect(world: World, receiver: Receiver) -> None:

    async def numbers(host: str, port: int) -> list[str]:
        return [str(ip_address(host)) if ":" in host else socket.inet_ntoa(socket.inet_aton(host))]

    hosts = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "2130706433", "0x7f.1", "0", "169.254.169.254"]
    for n, host in enumerate(hosts):
        await world.run(f"http://{host}:{receiver.port}/", f"run_{n}")
    deliveries = world.deliveries(max_attempts=1, sender=a_sender(allow=is_public, resolver=numbers))
    async with serving(deliveries):
        for n in range(len(hosts)):
            callback = await world.until(deliveries, failed, f"run_{n}")
            assert callback.data[0].status is None
            assert "is not on the public internet" in (callback.data[0].error or "")
    assert receiver.requests == []


async def test_a_name_that_turns_private_is_refused(world: World, receiver: Receiver) -> None:
    """It was public when the run began."""

    async def rebinds(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"]

    await world.run(f"http://hook.example:{receiver.port}/")
    deliveries = world.deliveries(max_attempts=1, sender=a_sender(allow=is_public, resolver=rebinds))
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert callback.data[0].error == "hook.example is not on the public internet: only public addresses may be reached"
    assert receiver.requests == []


async def test_errors_name_no_address(world: World, receiver: Receiver) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    await world.run("http://closed.example:9/", "run_1")
    await world.run(f"https://plain.example:{receiver.port}/", "run_2")
    deliveries = world.deliveries(max_attempts=1, sender=a_sender(resolver=resolver))
    async with serving(deliveries):
        closed = await world.until(deliveries, failed, "run_1")
        plain = await world.until(deliveries, failed, "run_2")
    assert closed.data[0].error == "no connection could be made"
    assert plain.data[0].error == "no TLS connection could be made"


async def test_a_handshake_without_end(world: World, receiver: Receiver) -> None:
    receiver.shakes_hands = asyncio.Event()
    await world.run(receiver.url.replace("http", "https"))
    deliveries = world.deliveries(max_attempts=1, sender=a_sender(time_limit=0.3))
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert callback.data[0].error == "no answer within 0.3 s"
    receiver.shakes_hands.set()
