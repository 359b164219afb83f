from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from app.callbacks.service import CallbackService
from app.domain.callbacks import Outcome
from app.domain.errors import RequestError
from app.domain.principals import Principal
from app.egress.addresses import Address, is_public
from tests.callbacks.conftest import ANN, TENANT, World, anywhere, serving
from tests.callbacks.receiver import Receiver, answer

BOB = Principal(tenant="t1", user="bob")
STRANGER = Principal(tenant="t2")
NAMES = {
    "hook.example": ["93.184.215.14"],
    "inside.example": ["10.0.0.7"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "xn--grn-ioa.example": ["93.184.215.14"],
}


async def resolver(host: str, port: int) -> list[str]:
    if host == "busy.example":
        raise socket.gaierror(socket.EAI_AGAIN, "try again")
    if host == "stuck.example":
        await asyncio.Event().wait()
    if host in NAMES:
        return NAMES[host]
    try:
        return [str(ip_address(host)) if ":" in host else socket.inet_ntoa(socket.inet_aton(host))]
    except OSError:
        raise socket.gaierror(socket.EAI_NONAME, "unknown") from None


def a_service(
    world: World, allow: Callable[[Address], bool] = is_public, wake: Callable[[], None] = lambda: None
) -> CallbackService:
    return CallbackService(store=world.store, resolver=resolver, allow=allow, wake=wake)


@pytest.mark.parametrize(
    "url",
    [
        "http://hook.example/x?token=1",
        "https://hook.example:8443/",
        "https://grün.example/",
        "HTTPS://93.184.215.14/#part",
        "http://busy.example/",  # nobody can tell just now
    ],
)
async def test_urls_that_may_be_called(world: World, url: str) -> None:
    await a_service(world).check_url(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must be absolute"),
        ("hook.example/x", "must be absolute"),
        ("ftp://hook.example/", "must be absolute"),
        ("file:///etc/passwd", "must be absolute"),
        ("javascript:alert(1)", "must be absolute|not valid"),
        ("http://user:secret@hook.example/", "must not hold credentials"),
        ("http://user@hook.example/", "must not hold credentials"),
        ("http://hook.example:99999/", "port must be 1 to 65535"),
        ("http://exa mple.com/", "not valid"),
        ("http://hook.example/" + "x" * 2_000, "longer than 2000"),
        ("http://unknown.example/", "is not known"),
        ("http://inside.example/", "not on the public internet"),
        ("http://mixed.example/", "not on the public internet"),
        ("http://127.0.0.1/", "not on the public internet"),
        ("http://127.1:8080/", "not on the public internet"),
        ("http://2130706433/", "not on the public internet"),
        ("http://0x7f000001/", "not on the public internet"),
        ("http://0/", "not on the public internet"),
        ("http://10.1.2.3/", "not on the public internet"),
        ("http://169.254.169.254/latest/meta-data/", "not on the public internet"),
        ("http://[::1]/", "not on the public internet"),
        ("http://[::]/", "not on the public internet"),
        ("http://[::ffff:169.254.169.254]/", "not on the public internet"),
        ("http://[::ffff:7f00:1]/", "not on the public internet"),
        ("http://[fd00::1]/", "not on the public internet"),
        ("http://[fe80::1%25eth0]/", "not valid"),
        ("http://[64:ff9b::a9fe:a9fe]/", "not on the public internet"),
        ("http://①②⑦.0.0.1/", "not valid"),
    ],
)
async def test_urls_that_are_refused(world: World, url: str, why: str) -> None:
    with pytest.raises(RequestError, match=why) as caught:
        await a_service(world).check_url(url)
    assert caught.value.code == "validation_error"
    assert [error.path for error in caught.value.errors] == ["callback_url"]


async def test_private_addresses_where_they_are_allowed(world: World) -> None:
    service = a_service(world, anywhere)
    for url in ("http://127.0.0.1:9/", "http://[::1]/", "http://inside.example/"):
        await service.check_url(url)
    for url in ("http://unknown.example/", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/"):
        with pytest.raises(RequestError):
            await service.check_url(url)


async def test_a_lookup_that_hangs_holds_nobody_up(world: World) -> None:
    service = CallbackService(store=world.store, resolver=resolver, allow=is_public, wake=lambda: None, lookup=0.05)
    await service.check_url("http://stuck.example/")


async def test_whose_callbacks_one_sees(world: World) -> None:
    await world.run("http://hook.example/", status="waiting")
    service = a_service(world)
    for principal in (ANN, TENANT):
        found = await service.callback(principal, "run_1")
        assert (found.url, found.status, found.next_at, found.data) == ("http://hook.example/", "waiting", None, ())
    for principal, run_id in ((BOB, "run_1"), (STRANGER, "run_1"), (ANN, "run_2")):
        for call in (service.callback, service.replay):
            with pytest.raises(RequestError) as caught:
                await call(principal, run_id)
            assert caught.value.code == "not_found"


async def test_nothing_is_sent_before_the_end(world: World) -> None:
    await world.run("http://hook.example/", status="waiting")
    with pytest.raises(RequestError) as caught:
        await a_service(world).replay(ANN, "run_1")
    assert caught.value.code == "state_conflict"
    assert await world.store.claim(60, []) is None


@pytest.mark.parametrize("outcome", ["204 No Content", "410 Gone", "500 Oops"])
async def test_a_replay_sends_it_again_with_all_its_attempts(world: World, receiver: Receiver, outcome: str) -> None:
    await world.run(receiver.url)
    deliveries = world.deliveries(max_attempts=2)
    receiver.always = answer(outcome)
    async with serving(deliveries):
        first = await world.until(deliveries, lambda found: found.status in ("delivered", "failed"))
        receiver.answers = [answer("500 Oops")]
        receiver.always = answer()
        replayed = await a_service(world, wake=deliveries.wake).replay(TENANT, "run_1")
        assert (replayed.status, replayed.data[: len(first.data)]) == ("due", first.data)
        last = await world.until(deliveries, lambda found: found.status == "delivered" and found != first)
    assert [attempt.number for attempt in last.data] == list(range(1, len(first.data) + 3))
    assert [attempt.status for attempt in last.data][-2:] == [500, 204]
    assert {received.headers["webhook-id"] for received in receiver.requests} == {"evt_1"}
    assert len({received.body for received in receiver.requests}) == 1


async def test_a_replay_outruns_what_is_under_way(world: World) -> None:
    """The attempt of before is logged, and takes nothing away from the replay."""
    await world.run("http://hook.example/")
    before = await world.store.claim(60, [])
    assert before is not None
    assert (await a_service(world).replay(ANN, "run_1")).status == "due"
    assert await world.store.record(before, Outcome(duration_ms=1, status=204), "delivered", None) is False
    callback = await world.callback()
    assert (callback.status, len(callback.data)) == ("due", 1)
    assert callback.next_at is not None
    assert callback.next_at <= datetime.now(UTC)
