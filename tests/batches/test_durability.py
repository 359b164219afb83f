"""What a batch survives: its process's death at any line, a vendor that answers into the void, and others who look after it too."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from app.batches.jobs import BatchJobs
from app.batches.visit import Limits, Pauses
from app.domain.batches import BatchLimits, Part
from app.domain.errors import DatabaseUnavailable
from app.domain.usage import Caps
from app.storage.postgres.batches import PostgresBatchStore
from tests.batches.conftest import Open
from tests.batches.vendor import Remote, Reply, Vendor
from tests.batches.world import COST, Kind, World, serving
from tests.e2e.service import ROOT
from tests.waiting import until

CLAIM = 0.4
"""Seconds: short, so that a dead process is followed soon."""


@asynccontextmanager
async def process(dsn: str, kind: Kind, remote: Vendor) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that looks after batches, killed at the latest at the end."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.batches.process", dsn, kind, remote.url, str(CLAIM), cwd=ROOT
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def soon(jobs: BatchJobs, holds: Callable[[], bool]) -> None:
    """It holds, once the process has looked often enough."""

    def woken() -> bool:
        jobs.wake()
        return holds()

    await until(woken)


async def finished(w: World, batch_id: str) -> Any:
    """The batch, once a process with a short claim has looked after it to its end."""
    jobs = w.jobs(claim=CLAIM)
    async with serving(jobs):
        return await w.until(batch_id, ("ended", "failed", "cancelled"), jobs)


async def test_a_process_that_dies_between_submission_and_note_submits_nothing_twice(
    world: Open, remote: Vendor, kind: Kind, database: str
) -> None:
    remote.hold = asyncio.Event()
    async with world(kind) as w:
        batch = await w.create("a", "b", "c")
        async with process(database, kind, remote) as killed:
            await asyncio.wait_for(remote.created.wait(), 30)  # it is there, and nobody was told
            killed.send_signal(signal.SIGKILL)
            await killed.wait()
        remote.hold.set()
        if kind == "anthropic":
            remote.only().state = "ended"  # only then it says whose it is
        assert (await w.batch(batch.id)).status == "submitting"
        done = await finished(w, batch.id)
        assert await w.outputs(batch.id) == ["You said: a", "You said: b", "You said: c"]
    assert remote.sent == 3
    assert done.cost_usd == float(3 * COST)


async def test_a_process_that_dies_among_the_results_counts_each_once(
    world: Open, remote: Vendor, kind: Kind, database: str
) -> None:
    remote.results_hold = asyncio.Event()
    texts = [f"text {n}" for n in range(900)]
    async with world(kind) as w:
        batch = await w.create(*texts)
        async with process(database, kind, remote) as killed:

            async def some_stored() -> bool:
                return (await w.batch(batch.id)).counts.succeeded > 0

            await until(some_stored, within=30)
            killed.send_signal(signal.SIGKILL)
            await killed.wait()
        halfway = await w.batch(batch.id)
        assert halfway.status == "collecting"
        assert 0 < halfway.counts.succeeded < 900
        remote.results_hold.set()
        remote.results_hold = None
        done = await finished(w, batch.id)
        assert await w.outputs(batch.id) == [f"You said: {text}" for text in texts]
    assert (done.counts.succeeded, remote.sent) == (900, 900)
    assert done.cost_usd == float(900 * COST)


async def test_an_answer_that_is_lost_on_the_way_is_not_a_reason_to_submit_again(
    world: Open, remote: Vendor, kind: Kind
) -> None:
    remote.replies = [(r"POST /v1/(batches|messages/batches)", Reply(cut=True, after=True))]
    async with world(kind) as w:
        batch = await w.create("a", "b")
        jobs = w.jobs()
        async with serving(jobs):
            await until(lambda: bool(remote.remotes))
            if kind == "anthropic":
                remote.only().state = "ended"
            done = await w.until(batch.id, ("ended",), jobs)
    assert (done.counts.succeeded, remote.sent) == (2, 2)


async def test_a_submission_that_never_arrived_is_made_again(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.replies = [(r"POST /v1/(batches|messages/batches)", Reply(cut=True))] * 2
    async with world(kind) as w:
        batch = await w.create("a", "b")
        done = await w.finish(batch.id)
    assert (done.counts.succeeded, remote.sent, remote.replies) == (2, 2, [])


async def test_nothing_is_sent_while_another_batch_may_be_ours(world: Open, remote: Vendor) -> None:
    """Anthropic names nobody's batch before it has ended: one of as many requests, made at that time, is waited for."""
    before = remote.stranger("anthropic", 2, state="in_progress")  # older than the submission: of no concern
    made: list[Remote] = []  # the second has more requests
    others = lambda: made.extend(remote.stranger("anthropic", count) for count in (2, 3))  # noqa: E731
    remote.replies = [(r"POST /v1/messages/batches", Reply(cut=True, beside=others))]
    async with world("anthropic") as w:
        batch = await w.create("a", "b")
        jobs = w.jobs()
        async with serving(jobs):
            await until(lambda: made)
            theirs = made[0]
            found = await w.until(batch.id, ("submitting",), jobs)

            async def waits() -> bool:
                error = (await w.batch(batch.id)).error
                return error is not None and error.code == "unconfirmed"

            await until(waits)
            looks = remote.asked.count("GET /v1/messages/batches")
            await soon(jobs, lambda: remote.asked.count("GET /v1/messages/batches") > looks + 6)
            assert remote.asked.count("POST /v1/messages/batches") == 1
            theirs.state = "ended"
            done = await w.until(batch.id, ("ended",), jobs)
    assert found.counts.pending == 2
    assert done.counts.succeeded == 2
    assert remote.asked.count("POST /v1/messages/batches") == 2
    assert before.polls == theirs.polls == 0


async def test_of_parts_alike_none_is_taken_for_another(world: Open, remote: Vendor) -> None:
    """The second of two parts of the same size is lost on its way: the first, which is known, is not it."""
    remote.ends_after = None
    async with world("anthropic", limits=BatchLimits(requests=2, bytes=10**8)) as w:
        batch = await w.create("a", "b", "c", "d")
        parts = [await w.store.claim(30), await w.store.claim(30)]
        first, second = (part for part in parts if part is not None)
        provider = w.providers.of_target("", "")
        assert provider is not None
        assert await w.store.intend(second, await provider.marker())
        assert await w.store.intend(first, "")
        await w.store.pause(first, 0, "due", None, 0)
        await w.store.pause(second, 3600, "submitting", None, 0)
        jobs = w.jobs()
        async with serving(jobs):
            await soon(jobs, lambda: len(remote.remotes) == 1)
            assert remote.only().lines[0]["custom_id"].startswith(first.id)
            await w.until(batch.id, ("in_progress",), jobs)
            await w.db.execute("UPDATE batch_parts SET next_at = now() WHERE id = $1", second.id)
            await soon(jobs, lambda: len(remote.remotes) == 2)
            remote.ends_after = 1
            await w.until(batch.id, ("ended",), jobs)
    assert remote.sent == 4


async def test_who_lost_its_claim_while_it_sent_takes_back_what_it_sent(
    world: Open, remote: Vendor, kind: Kind
) -> None:
    """A process that stood still while another one took over: of two batches at the provider, one is cancelled."""
    remote.ends_after = None
    async with world(kind) as w:
        batch = await w.create("a")
        remote.hold = asyncio.Event()
        jobs = w.jobs()
        async with serving(jobs):
            await asyncio.wait_for(remote.created.wait(), 30)
            # Somebody else took it over and looked before the batch was to be seen.
            await w.db.execute(
                "UPDATE batch_parts SET epoch = epoch + 1, remote_id = 'elsewhere', status = 'in_progress'"
            )
            remote.hold.set()
            await until(lambda: bool(remote.cancelled))
        assert remote.cancelled == [remote.only().id]
        assert await w.statuses(batch.id) == ["pending"]


async def test_two_processes_take_each_result_once(world: Open, remote: Vendor, kind: Kind) -> None:
    async with world(kind) as w:
        batches = [await w.create(*(f"{n} {text}" for text in range(50))) for n in range(6)]
        one, two = w.jobs(), w.jobs()
        async with serving(one, two):
            for batch in batches:
                done = await w.until(batch.id, ("ended",), one, two)
                assert (done.counts.succeeded, done.cost_usd) == (50, float(50 * COST))
    assert (remote.sent, remote.results_read >= 6) == (300, True)


async def test_a_stale_owner_stores_nothing(world: Open, remote: Vendor) -> None:
    async with world("anthropic") as w:
        batch = await w.create("a")
        stale = await w.store.claim(0.0)
        current = await w.store.claim(30.0)
        assert stale is not None
        assert current is not None
        assert (current.id, current.epoch) == (stale.id, stale.epoch + 1)
        assert not await w.store.intend(stale, "")
        assert not await w.store.noted(stale, "x")
        assert not await w.store.collecting(stale)
        assert not await w.store.record(stale, [])
        assert not await w.store.extend(stale, 30)
        assert await w.store.end(stale, "errored", None, again=None) is None
        await w.store.pause(stale, 0, "in_progress", None, 0)
        await w.store.give_back(stale)
        assert await w.store.claim(30.0) is None
        assert (await w.batch(batch.id)).status == "queued"
        assert await w.store.intend(current, "")


async def test_a_long_submission_keeps_its_claim(world: Open, remote: Vendor) -> None:
    remote.hold = asyncio.Event()
    async with world("anthropic") as w:
        batch = await w.create("a")
        one, two = w.jobs(claim=CLAIM), w.jobs(claim=CLAIM)
        async with serving(one, two):
            await asyncio.wait_for(remote.created.wait(), 30)
            extended = await w.db.fetchval("SELECT next_at FROM batch_parts")

            async def outlived() -> bool:
                two.wake()
                later = await w.db.fetchval("SELECT next_at FROM batch_parts")
                return bool((later - extended).total_seconds() > 3 * CLAIM)

            await until(outlived)
            remote.hold.set()
            done = await w.until(batch.id, ("ended",), one, two)
        assert await w.db.fetchval("SELECT epoch FROM batch_parts") == 1
    assert (done.counts.succeeded, remote.asked.count("POST /v1/messages/batches")) == (1, 1)


async def test_a_provider_that_never_answers_is_given_up_on_and_looked_at_again(
    world: Open, remote: Vendor, kind: Kind
) -> None:
    remote.hold = asyncio.Event()
    async with world(kind) as w:
        batch = await w.create("a")
        jobs = w.jobs(limits=Limits(submit=0.3, call=5))
        async with serving(jobs):
            await asyncio.wait_for(remote.created.wait(), 30)
            remote.only().state = "ended"
            done = await w.until(batch.id, ("ended",), jobs)
        remote.hold.set()
    assert (done.counts.succeeded, remote.sent) == (1, 1)


class Unreachable(PostgresBatchStore):
    """A store whose database goes away just when the provider has answered."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.failures = 1

    async def noted(self, part: Part, remote_id: str) -> bool:
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable("as the test wants it")
        return await super().noted(part, remote_id)


class Counting(PostgresBatchStore):
    """A store that keeps what it was told of pauses."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.pauses: list[tuple[str, int, float]] = []

    async def pause(self, part: Part, seconds: float, status: Any, error: Any, tries: int) -> None:
        self.pauses.append((status, tries, seconds))
        await super().pause(part, seconds, status, error, tries)


async def test_pauses_grow_while_a_provider_is_busy_and_heed_its_wish(world: Open, remote: Vendor, kind: Kind) -> None:
    busy = Reply(429, {"error": {"type": "rate_limit_error"}})
    wish = Reply(429, {"error": {"type": "rate_limit_error"}}, headers={"Retry-After": "0.5"})
    remote.replies = [(r"POST /v1/(batches|messages/batches)", reply) for reply in (busy, busy, busy, wish)]
    async with world(kind) as w:
        batch = await w.create("a")
        store = Counting(database=w.db, caps=Caps())
        jobs = w.jobs(store=store, pauses=Pauses(first=0.01, longest=0.3, settle=0.02, again=0.01))
        async with serving(jobs):
            await w.until(batch.id, ("ended",), jobs)
    assert [(status, tries) for status, tries, _ in store.pauses] == [("due", n) for n in range(1, 5)]
    assert store.pauses[3][2] == 0.5
    assert all(
        0.8 * 0.01 * 1.5**n <= seconds <= 1.2 * 0.01 * 1.5**n for n, (_, _, seconds) in enumerate(store.pauses[:3])
    )


async def test_a_note_that_could_not_be_stored_is_made_later(world: Open, remote: Vendor, kind: Kind) -> None:
    async with world(kind) as w:
        batch = await w.create("a")
        jobs = w.jobs(claim=CLAIM, store=Unreachable(database=w.db, caps=Caps()))
        async with serving(jobs):
            await until(lambda: bool(remote.remotes))
            remote.only().state = "ended"
            done = await w.until(batch.id, ("ended",), jobs)
    assert (done.counts.succeeded, remote.sent) == (1, 1)
