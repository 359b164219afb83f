from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from app.callbacks.deliveries import LONGEST_WISH, Deliveries
from app.domain.callbacks import Callback, CallbackStatus, Delivery, Outcome
from app.domain.errors import ConfigError, DatabaseUnavailable
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.pool import open_pool
from tests.callbacks.conftest import SECRET, World, a_sender, serving
from tests.callbacks.receiver import Receiver, answer, verified


def delivered(callback: Callback) -> bool:
    return callback.status == "delivered"


def failed(callback: Callback) -> bool:
    return callback.status == "failed"


async def test_the_end_of_a_run_is_told_signed(world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    deliveries = world.deliveries()
    async with serving(deliveries):
        callback = await world.until(deliveries, delivered)
    (received,) = receiver.requests
    assert received.target == "/hook?token=1"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-id"] == "evt_1"
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 60
    assert verified(SECRET, received)
    assert not verified("whsec_" + "A" * 32, received)
    told = received.json
    assert (told["type"], told["timestamp"]) == ("run.finished", "2026-11-21T12:00:00Z")
    assert (told["data"]["id"], told["data"]["output"]) == ("run_1", "grüße")
    (attempt,) = callback.data
    assert (callback.next_at, attempt.number, attempt.status, attempt.error) == (None, 1, 204, None)
    assert 0 < attempt.duration_ms < 20_000
    assert datetime.now(UTC) - timedelta(minutes=1) < attempt.at <= datetime.now(UTC)


async def test_failures_are_repeated_under_the_same_id(world: World, receiver: Receiver) -> None:
    async def broken(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    receiver.answers = [
        answer("500 Oops"),
        broken,
        b"what?\r\n\r\n",
        answer("301 Moved", Location="/elsewhere"),
        answer("404 Not Found"),
    ]
    await world.run(receiver.url)
    deliveries = world.deliveries()
    async with serving(deliveries):
        callback = await world.until(deliveries, delivered)
    assert [(attempt.number, attempt.status) for attempt in callback.data] == [
        (1, 500), (2, None), (3, None), (4, 301), (5, 404), (6, 204),
    ]  # fmt: skip
    errors = [attempt.error or "" for attempt in callback.data]
    assert errors[0] == "the receiver answered 500"
    assert errors[1] == errors[2] == "the connection broke before an answer"
    assert "redirects are not followed" in errors[3]
    assert {(r.target, r.headers["webhook-id"], r.body) for r in receiver.requests} == {
        ("/hook?token=1", "evt_1", receiver.requests[0].body)
    }
    assert all(verified(SECRET, received) for received in receiver.requests)


async def test_attempts_are_bounded(world: World, receiver: Receiver) -> None:
    receiver.always = answer("503 Busy")
    await world.run(receiver.url)
    deliveries = world.deliveries(max_attempts=3)
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert (len(callback.data), len(receiver.requests), callback.next_at) == (3, 3, None)


async def test_a_receiver_that_is_gone_for_good_is_left_alone(world: World, receiver: Receiver) -> None:
    receiver.always = answer("410 Gone")
    await world.run(receiver.url)
    deliveries = world.deliveries()
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert [attempt.status for attempt in callback.data] == [410]


@pytest.mark.parametrize(
    ("wish", "least", "most"),
    [
        ("100", 90, 101),
        ("99999999", LONGEST_WISH - 10, LONGEST_WISH + 1),
        ("in the future", 85, 101),
        ("0", 7, 13),
        ("soon", 7, 13),
        ("-5", 7, 13),
    ],
)
async def test_a_receiver_may_ask_for_patience(
    world: World, receiver: Receiver, wish: str, least: float, most: float
) -> None:
    if wish == "in the future":
        wish = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    receiver.always = answer("429 Slow down", Retry_After=wish)
    await world.run(receiver.url)
    deliveries = world.deliveries(pauses=(10.0,))
    async with serving(deliveries):
        callback = await world.until(deliveries, lambda found: bool(found.data))
    assert (callback.status, len(receiver.requests)) == ("due", 1)
    assert callback.next_at is not None
    assert least <= (callback.next_at - datetime.now(UTC)).total_seconds() <= most


async def test_pauses_grow(world: World, receiver: Receiver) -> None:
    receiver.always = answer("500 Oops")
    await world.run(receiver.url)
    deliveries = world.deliveries(pauses=(100.0, 1000.0), max_attempts=9)
    async with serving(deliveries):
        for number, pause in enumerate((100, 1000, 1000), 1):
            callback = await world.until(deliveries, lambda found, number=number: len(found.data) == number)  # type: ignore[misc]
            assert callback.next_at is not None
            assert 0.7 * pause < (callback.next_at - datetime.now(UTC)).total_seconds() < 1.3 * pause
            await world.db.execute("UPDATE callbacks SET next_at = clock_timestamp()")


class Crashes(PostgresCallbackStore):
    """A process that dies after the request was sent and before it is written down, so many times."""

    crashes = 1

    async def record(
        self, delivery: Delivery, outcome: Outcome | None, status: CallbackStatus, pause: float | None
    ) -> bool:
        if self.crashes and outcome is not None:
            self.crashes -= 1
            # Its claim runs out.
            await self._db.execute("UPDATE callbacks SET next_at = clock_timestamp()")
            raise DatabaseUnavailable("died")
        return await super().record(delivery, outcome, status, pause)


async def test_a_sender_that_dies_is_followed_by_another(world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    deliveries = world.deliveries(store=Crashes(database=world.db))
    async with serving(deliveries):
        callback = await world.until(deliveries, delivered)
    assert [received.headers["webhook-id"] for received in receiver.requests] == ["evt_1"] * 2
    assert len(callback.data) == 1  # the other attempt died with its process


async def test_a_callback_that_kills_its_senders_is_given_up(world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    store = Crashes(database=world.db)
    store.crashes = 100
    deliveries = world.deliveries(store=store, max_attempts=3)
    async with serving(deliveries):
        callback = await world.until(deliveries, failed)
    assert (len(receiver.requests), callback.data) == (3, ())


async def test_the_right_to_send_ends_with_the_claim(world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    first = await world.store.claim(0.0, [])
    assert first is not None
    assert (first.attempt, first.url) == (1, receiver.url)
    second = await world.store.claim(60, [])
    assert second is not None
    assert second.attempt == 2
    assert await world.store.claim(60, []) is None
    late = Outcome(duration_ms=1, status=500, error="late")
    assert await world.store.record(first, late, "failed", None) is False
    await world.store.give_back(first)
    assert await world.store.record(second, Outcome(duration_ms=2, status=200), "delivered", None) is True
    callback = await world.callback()
    assert (callback.status, [(a.number, a.error) for a in callback.data]) == ("delivered", [(1, "late"), (2, None)])


async def test_two_processes_share_the_work(database: str, world: World, receiver: Receiver) -> None:
    for n in range(40):
        await world.run(receiver.url, f"run_{n}")
    async with open_pool(database) as other:
        both = [world.deliveries(), world.deliveries(store=PostgresCallbackStore(database=other))]
        async with serving(*both):
            for n in range(40):
                await world.until(both[0], delivered, f"run_{n}")
    assert sorted(r.headers["webhook-id"] for r in receiver.requests) == sorted(f"evt_{n}" for n in range(40))


async def test_a_slow_receiver_is_left_and_delays_no_other(world: World, receiver: Receiver) -> None:
    silent = asyncio.Event()

    async def says_nothing(writer: asyncio.StreamWriter) -> None:
        await silent.wait()

    receiver.always = says_nothing
    for n in range(8):
        await world.run(receiver.url, f"run_{n}")
    deliveries = world.deliveries(per_host=3, concurrency=4, pauses=(100.0,), sender=a_sender(time_limit=30))
    async with serving(deliveries):
        await receiver.got(3)
        receiver.always = answer()
        other = receiver.url.replace("127.0.0.1", "LOCALHOST")
        await world.run(other, "run_quick")
        await world.until(deliveries, delivered, "run_quick")
        assert len(receiver.requests) == 4
        silent.set()
        for n in range(3, 8):
            await world.until(deliveries, delivered, f"run_{n}")


async def test_what_is_under_way_at_the_end_is_given_back(world: World, receiver: Receiver) -> None:
    silent = asyncio.Event()

    async def says_nothing(writer: asyncio.StreamWriter) -> None:
        await silent.wait()

    receiver.answers = [says_nothing]
    await world.run(receiver.url)
    async with serving(world.deliveries()):
        await receiver.got(1)
    callback = await world.callback()
    assert (callback.status, callback.data) == ("due", ())
    again = await world.store.claim(60, [])
    assert again is not None
    assert again.attempt == 1
    silent.set()


async def test_what_was_sent_at_the_end_is_written_down(world: World, receiver: Receiver) -> None:
    entered, may_end = asyncio.Event(), asyncio.Event()

    class Slow(PostgresCallbackStore):
        async def record(
            self, delivery: Delivery, outcome: Outcome | None, status: CallbackStatus, pause: float | None
        ) -> bool:
            entered.set()
            await may_end.wait()
            return await super().record(delivery, outcome, status, pause)

    await world.run(receiver.url)
    task = asyncio.create_task(world.deliveries(store=Slow(database=world.db)).serve())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    callback = await world.callback()
    assert (callback.status, len(callback.data), len(receiver.requests)) == ("delivered", 1, 1)


async def test_a_run_that_was_deleted_is_not_told(world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    await world.run(receiver.url, "run_2")
    world.runs.gone.add("run_1")
    deliveries = world.deliveries()
    async with serving(deliveries):
        await world.until(deliveries, delivered, "run_2")
    assert [received.headers["webhook-id"] for received in receiver.requests] == ["evt_2"]
    delivery = await world.store.claim(0, [])
    assert delivery is None
    lost = Delivery(run_id="run_0", tenant="t1", url="", attempt=1, claim=datetime.now(UTC))
    assert await world.store.record(lost, Outcome(duration_ms=1), "delivered", None) is False


async def test_a_fault_of_ours_stops_no_other_delivery(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Deliveries):
        async def _attempt(self, delivery: Delivery) -> None:
            if delivery.run_id == "run_1":
                raise LookupError("a fault")
            await super()._attempt(delivery)

    await world.run(receiver.url)
    await world.run(receiver.url, "run_2")
    deliveries = Broken(store=world.store, runs=world.runs, sender=a_sender(), secret=SECRET)
    with caplog.at_level(logging.ERROR):
        async with serving(deliveries):
            await world.until(deliveries, delivered, "run_2")
    assert "a callback could not be sent" in caplog.text


async def test_the_database_may_be_away_for_a_while(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(PostgresCallbackStore):
        times = 2

        async def claim(self, seconds: float, spared: list[str]) -> Delivery | None:
            if self.times:
                self.times -= 1
                raise DatabaseUnavailable("away")
            return await super().claim(seconds, spared)

    await world.run(receiver.url)
    deliveries = world.deliveries(store=Away(database=world.db))
    async with serving(deliveries):
        await world.until(deliveries, delivered)
    assert caplog.text.count("callbacks wait for it") == 1


async def test_a_secret_is_made_once_for_all_replicas(database: str, world: World, receiver: Receiver) -> None:
    for n in range(6):
        await world.run(receiver.url, f"run_{n}")
    async with open_pool(database) as other:
        both = [
            world.deliveries(secret=None, per_host=2),
            world.deliveries(secret=None, per_host=2, store=PostgresCallbackStore(database=other)),
        ]
        async with serving(*both):
            for n in range(6):
                await world.until(both[0], delivered, f"run_{n}")
    secret = await world.store.secret("callbacks", "another")
    assert secret.startswith("whsec_")
    assert all(verified(secret, received) for received in receiver.requests)


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 100, "whsec_ä"])
async def test_a_configured_secret_must_be_one(world: World, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        world.deliveries(secret=secret)
    assert secret in ("", "secret", "whsec_") or secret not in str(caught.value)
