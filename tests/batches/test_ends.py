"""Batches that do not go their way: cancelled, too late, given up."""

from __future__ import annotations

import msgspec

from tests.batches.conftest import Open
from tests.batches.vendor import Vendor
from tests.batches.world import ANN, COST, FAST, Kind, serving
from tests.waiting import until


async def test_what_is_cancelled_before_it_was_sent_is_never_sent(world: Open, remote: Vendor) -> None:
    async with world("anthropic") as w:
        batch = await w.create("a", "b")
        cancelled, live = await w.service.cancel(ANN, batch.id)
        assert (cancelled.status, live) == ("cancelling", True)
        done = await w.finish(batch.id)
        assert await w.statuses(batch.id) == ["cancelled", "cancelled"]
    assert (done.status, done.counts.cancelled, remote.remotes) == ("cancelled", 2, {})


async def test_a_batch_that_is_cancelled_keeps_what_was_answered(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.ends_after = None
    remote.answers = {"done": "by then"}
    async with world(kind) as w:
        batch = await w.create("done", "not yet", "nor this")
        jobs = w.jobs(pauses=msgspec.structs.replace(FAST, first=3600, longest=3600))  # nobody looks by himself
        async with serving(jobs):
            await w.until(batch.id, ("in_progress",), jobs)
            await until(lambda: remote.polls == 1)
            await w.service.cancel(ANN, batch.id)
            done = await w.until(batch.id, ("cancelled",), jobs)
        assert await w.statuses(batch.id) == ["succeeded", "cancelled", "cancelled"]
        again, live = await w.service.cancel(ANN, batch.id)
    assert (again.status, live) == ("cancelled", False)
    assert (done.counts.succeeded, done.counts.cancelled, remote.sent) == (1, 2, 3)
    assert len(remote.cancelled) == 1
    assert done.cost_usd == float(COST)


async def test_what_has_no_answer_in_time_has_expired(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.ends_after = None
    remote.answers = {"done": "in time"}
    async with world(kind) as w:
        batch = await w.create("done", "too late")
        jobs = w.jobs()
        async with serving(jobs):
            await w.until(batch.id, ("in_progress",), jobs)
            await w.db.execute("UPDATE batches SET expires_at = clock_timestamp()")
            done = await w.until(batch.id, ("ended",), jobs)
        results = await w.results(batch.id)
    assert [result.status for result in results] == ["succeeded", "expired"]
    assert results[1].error is not None
    assert results[1].error.code == "expired"
    assert (done.counts.succeeded, remote.sent, len(remote.cancelled)) == (1, 2, 1)


async def test_a_batch_whose_provider_never_ends_it_is_given_up(world: Open, remote: Vendor) -> None:
    remote.ends_after = None
    async with world("anthropic") as w:
        batch = await w.create("a")
        jobs = w.jobs()
        async with serving(jobs):
            await w.until(batch.id, ("in_progress",), jobs)
            await w.db.execute("UPDATE batches SET expires_at = clock_timestamp() - interval '2 days'")
            await w.until(batch.id, ("ended",), jobs)
        assert await w.statuses(batch.id) == ["expired"]


async def test_what_an_answer_must_not_say_is_taken_out(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.answers = {"which key?": "It is ghp_" + "aB3d" * 9 + "."}
    async with world(kind) as w:
        batch = await w.create("which key?")
        await w.finish(batch.id)
        assert await w.outputs(batch.id) == ["It is ghp_[secret removed]."]


async def test_a_part_of_an_agent_that_is_off_waits_and_is_sent_when_it_is_on_again(
    world: Open, remote: Vendor
) -> None:
    async with world("anthropic") as w:
        off: list[str] = ["Agent tagger is switched off."]
        batch = await w.create("a")
        jobs = w.jobs(off=lambda tenant, agent: off[0] if off else None)
        async with serving(jobs):
            seen = await w.batch(batch.id)
            while seen.error is None:
                seen = await w.batch(batch.id)
            assert (seen.error.code, seen.error.detail) == ("disabled", "Agent tagger is switched off.")
            assert remote.sent == 0
            off.clear()
            await w.until(batch.id, ("ended",), jobs)
    assert remote.sent == 1
