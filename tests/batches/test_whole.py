"""Batches from the wish to the outcome of every item, at all three APIs."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from app.domain.batches import BatchLimits, BatchResult
from app.domain.errors import RequestError
from tests.batches.conftest import Open
from tests.batches.vendor import Errs, Reply, Vendor
from tests.batches.world import ANN, BOB, COST, OTHER, Kind, serving


async def test_every_item_has_its_answer_and_half_the_price(world: Open, remote: Vendor, kind: Kind) -> None:
    texts = [f"text {n}" for n in range(25)]
    async with world(kind, temperature=0.2) as w:
        batch = await w.create(*texts)
        assert (batch.status, batch.counts.pending, batch.cost_usd) == ("queued", 25, 0.0)
        done = await w.finish(batch.id)
        results = await w.results(batch.id)
    assert done.status == "ended"
    assert (done.counts.succeeded, done.counts.pending) == (25, 0)
    assert [msgspec.json.decode(result.output) for result in results] == [f"You said: {text}" for text in texts]
    assert [result.custom_id for result in results] == [f"item {n}" for n in range(25)]
    assert {result.cost_usd for result in results} == {float(COST)}
    assert done.cost_usd == float(25 * COST)
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.cached_input_tokens, done.usage.output_tokens) == (
        25_000,
        10_000,
        2_500,
    )
    assert len(remote.remotes) == 1


async def test_requests_are_those_of_live_calls_without_the_stream(world: Open, remote: Vendor, kind: Kind) -> None:
    async with world(kind, temperature=0.2, max_output_tokens=77) as w:
        await w.finish((await w.create("hello")).id)
    (line,) = remote.only().lines
    body = line.get("params") or line["body"]
    assert "stream" not in body
    assert "stream_options" not in body
    assert (body["model"], body["temperature"]) == ("model-1", 0.2)
    if kind == "anthropic":
        assert remote.only().headers["anthropic-version"] == "2023-06-01"  # the one that knows `temperature`
        assert body["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
        assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
        assert body["max_tokens"] == 77
    elif kind == "chat":
        assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    else:
        assert (body["instructions"], body["store"]) == ("Be brief.", False)


async def test_failures_of_single_items_are_theirs(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.answers = {"bad": Errs(400, "invalid_request_error"), "busy": Errs(529, "overloaded_error")}
    async with world(kind) as w:
        batch = await w.create("good", "bad", "busy")
        done = await w.finish(batch.id)
        good, bad, busy = await w.results(batch.id)
    assert done.status == "ended"
    assert (done.counts.succeeded, done.counts.errored) == (1, 2)
    assert good.error is None
    assert bad.error is not None
    assert busy.error is not None
    assert (bad.error.code, busy.error.code) == ("bad_request", "overloaded")
    sent = [line["custom_id"].rpartition("_")[2] for r in remote.remotes.values() for line in r.lines]
    assert sent == ["0", "1", "2", "2", "2"]  # what may pass is sent three times, what is wrong once


async def test_what_expired_is_sent_again_alone(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.answers = {"slow": ["expired", "at last"]}
    async with world(kind) as w:
        batch = await w.create("fast", "slow", "also fast")
        done = await w.finish(batch.id)
        assert await w.outputs(batch.id) == ["You said: fast", "at last", "You said: also fast"]
    assert remote.sent == 4
    assert done.cost_usd == float(3 * COST)


async def test_what_expires_for_ever_is_expired_visibly(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.answers = {"slow": "expired"}
    async with world(kind) as w:
        batch = await w.create("fast", "slow")
        done = await w.finish(batch.id)
        results = await w.results(batch.id)
    assert [result.status for result in results] == ["succeeded", "expired"]
    assert results[1].error is not None
    assert results[1].error.code == "batch_expired"
    assert (done.status, done.counts.expired, remote.sent) == ("ended", 1, 4)


async def test_garbage_and_repetitions_in_the_results_change_nothing(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.repeated = True
    remote.garbage = [
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"custom_id":"somebody_1","result":{"type":"expired"}}',
        b'{"custom_id":1}',
    ]
    async with world(kind) as w:
        batch = await w.create(*(f"text {n}" for n in range(250)))
        done = await w.finish(batch.id)
    assert (done.status, done.counts.succeeded) == ("ended", 250)
    assert done.cost_usd == float(250 * COST)
    assert remote.sent == 250


async def test_an_item_that_nobody_speaks_of_is_asked_for_then_sent_again(
    world: Open, remote: Vendor, kind: Kind
) -> None:
    remote.answers = {"lost": "silence"}
    async with world(kind) as w:
        batch = await w.create("kept", "lost")
        done = await w.finish(batch.id)
        results = await w.results(batch.id)
    assert [result.status for result in results] == ["succeeded", "errored"]
    assert results[1].error is not None
    assert results[1].error.code == "results_missing"
    assert [len(r.lines) for r in remote.remotes.values()] == [2, 1, 1]
    assert done.counts.errored == 1


async def test_large_batches_travel_in_parts(world: Open, remote: Vendor, kind: Kind) -> None:
    async with world(kind, limits=BatchLimits(requests=10, bytes=200_000_000)) as w:
        batch = await w.create(*(f"text {n}" for n in range(25)))
        done = await w.finish(batch.id)
        assert await w.outputs(batch.id) == [f"You said: text {n}" for n in range(25)]
    assert sorted(len(r.lines) for r in remote.remotes.values()) == [5, 10, 10]
    assert done.counts.succeeded == 25


async def test_parts_are_bounded_in_bytes_too(world: Open, remote: Vendor, kind: Kind) -> None:
    async with world(kind, limits=BatchLimits(requests=100, bytes=4_000)) as w:
        batch = await w.create(*("x" * 1_000 for _ in range(6)))
        with pytest.raises(RequestError) as refused:
            await w.create("x" * 4_000)
        done = await w.finish(batch.id)
    assert refused.value.errors[0].path == "items[0].input"
    assert done.counts.succeeded == 6
    assert len(remote.remotes) >= 3
    assert all(len(msgspec.json.encode(r.lines)) < 4_000 for r in remote.remotes.values())


async def test_structured_answers_are_held_against_the_schema(world: Open, remote: Vendor, kind: Kind) -> None:
    schema = {
        "type": "object",
        "properties": {"tag": {"type": "string"}},
        "required": ["tag"],
        "additionalProperties": False,
    }
    remote.answers = {"a": '{"tag":"x"}', "b": '{"tag":1}', "c": "no JSON"}
    async with world(kind, output_schema=schema) as w:
        batch = await w.create("a", "b", "c")
        done = await w.finish(batch.id)
        results = await w.results(batch.id)
        assert await w.outputs(batch.id) == [{"tag": "x"}, None, None]
    assert [result.status for result in results] == ["succeeded", "errored", "errored"]
    assert {result.error.code for result in results if result.error} == {"invalid_output"}
    assert done.cost_usd == float(3 * COST)  # paid for all the same
    assert remote.sent == 3


async def test_an_account_that_may_not_ends_the_batch_with_the_reason(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.replies = [(r"POST /v1/(files|messages/batches)", Reply(401, {"error": {"type": "authentication_error"}}))]
    async with world(kind) as w:
        batch = await w.create("a", "b")
        done = await w.finish(batch.id)
        results = await w.results(batch.id)
    assert (done.status, done.counts.errored) == ("failed", 2)
    assert done.error is not None
    assert done.error.code == "auth"
    assert [result.error.code for result in results if result.error] == ["auth", "auth"]
    assert remote.remotes == {}


async def test_a_busy_provider_is_asked_again(world: Open, remote: Vendor, kind: Kind) -> None:
    busy = Reply(429, {"error": {"type": "rate_limit_error"}})
    away = Reply(cut=True)
    remote.replies = [
        (r"POST /v1/(batches|messages/batches)", busy),
        (r"GET /v1/(batches|messages/batches)/[^/]*", Reply(503)),
        (r"GET /v1/(batches|messages/batches)/[^/]*", away),
        (r"GET /v1/(files/.*/content|messages/batches/.*/results)", away),
        (r"GET /v1/(files/.*/content|messages/batches/.*/results)", Reply(500)),
    ]
    async with world(kind) as w:
        batch = await w.create("a", "b")
        done = await w.finish(batch.id)
    assert (done.status, done.counts.succeeded, done.error) == ("ended", 2, None)
    assert remote.sent == 2
    assert remote.replies == []


async def test_a_batch_that_the_vendor_forgot_is_lost_not_sent_again(world: Open, remote: Vendor, kind: Kind) -> None:
    remote.ends_after = None
    async with world(kind) as w:
        batch = await w.create("a")
        jobs = w.jobs()
        async with serving(jobs):
            await w.until(batch.id, ("in_progress",), jobs)
            remote.forgets.add(remote.only().id)
            done = await w.until(batch.id, ("failed",), jobs)
    assert done.error is not None
    assert done.error.code == "batch_lost"
    assert remote.sent == 1


async def test_a_batch_that_was_not_begun_for_too_much_work_waits_its_turn(world: Open, remote: Vendor) -> None:
    remote.ends_after = None
    async with world("responses") as w:
        batch = await w.create("a")
        jobs = w.jobs()
        async with serving(jobs):
            await w.until(batch.id, ("in_progress",), jobs)
            remote.ends_after = 1
            remote.only().state = "failed"
            done = await w.until(batch.id, ("ended",), jobs)
    assert (done.counts.succeeded, len(remote.remotes)) == (1, 2)


async def test_what_belongs_to_others_is_not_there(world: Open, remote: Vendor) -> None:
    async with world("anthropic") as w:
        batch = await w.create("a")
        for stranger in (BOB, OTHER):
            for asked in (
                w.service.batch(stranger, batch.id),
                w.service.results(stranger, batch.id, -1, 10),
                w.service.cancel(stranger, batch.id),
            ):
                with pytest.raises(RequestError) as refused:
                    await asked
                assert refused.value.code == "not_found"
            assert await w.service.batches(stranger, None, 10) == []
        assert [found.id for found in await w.service.batches(ANN, None, 10)] == [batch.id]


def test_the_price_is_half() -> None:
    whole = (600 * Decimal(3) + 400 * Decimal("0.3") + 100 * Decimal(15)) / 1_000_000
    assert whole == 2 * COST


def test_results_have_no_hidden_fields() -> None:
    assert set(BatchResult.__struct_fields__) == {"custom_id", "status", "output", "stop", "error", "usage", "cost_usd"}
