"""Runs that look after something until it is there: each made from a seed, and each ends by itself with "done"."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.agent.acting import Model, Outcome, Tools, Wish
from tests.agent.runaways import text, token

Run = tuple[Model, Tools]
PENDING = (
    "pending", "queued", "running", "in_progress", "IN PROGRESS", "processing", "waiting", "building", "deploying", "scheduled", "started", "PENDING",
    "UPDATE_IN_PROGRESS", "warmingUp", "rolling_out", "AWAITING_REVIEW", "ENQUEUED", "not_started", "Rendering", "in-transit", "PARTIALLY_PROVISIONED",
)  # fmt: skip


def steps(*rounds: Sequence[Wish]) -> Model:
    """Those rounds, then the answer."""
    return lambda turn: rounds[turn] if turn < len(rounds) else "done"


def gives(*outcomes: Outcome) -> Tools:
    """Those outcomes, in the order of the calls."""
    left: Iterator[Outcome] = iter(outcomes)
    return lambda *_: next(left)


def look(rng: random.Random) -> list[Wish]:
    name = rng.choice(["job_status", "get_order", "get_job", "lookup_customer", "inventory"])
    return [(name, rng.choice([{"job_id": rng.randint(1, 99)}, {"id": token(rng)}, {}, {"name": text(rng, 1)}]))]


def polled(rng: random.Random, pending: Callable[[int, int], Any]) -> Run:
    """So many looks at the same thing, then it is there."""
    looks, asked = rng.randint(4, 20), look(rng)
    end = rng.choice([{"status": "done", "result": 42}, {"state": "succeeded"}, "finished", {"ready": True}])
    return steps(*[asked] * (looks + 1)), gives(*[("ok", pending(n, looks)) for n in range(looks)], ("ok", end))


def polling_a_state(rng: random.Random) -> Run:
    word = rng.choice(PENDING)
    shape: Any = rng.choice([
        {"status": word}, {"job": {"id": 7, "state": word}}, {"phase": word, "retries": 0}, f"Status: {word}", {"id": "a", "status": word, "result": None},
        {"deployment": {"name": "web", "state": word}}, {"id": 7, "owner": "ann", "created": "2026-11-22", "kind": "x", "size": 7, "status": word.lower()},
        f"job 7 has state={word}", {"order": 7, "buyer": "ann", "sum": 40.5, "lines": [1, 2], "currency": "EUR", "status": "new"}, {"id": 3, "state": "NEW"},
        "CONTAINER  IMAGE  STATUS\n" + "web   img   Up 3 hours\n" * rng.choice([0, 20]) + "cache  img  Up 5 seconds (health: starting)", {"status": word, "progress": 0, "eta_seconds": 30},
    ])  # fmt: skip
    return polled(rng, lambda *_: shape)


def polling_a_no(rng: random.Random) -> Run:
    shape: Any = rng.choice([
        {"done": False}, {"ready": False, "result": None}, {"paid": False}, {"job_id": 3, "finished": False}, False, {"result": None},
        {"available": False, "checked_at": "2026-11-22T10:00:00Z"}, {"is_complete": False}, {"exists": False},
    ])  # fmt: skip
    return polled(rng, lambda *_: shape)


def polling_a_sentence(rng: random.Random) -> Run:
    sentence = rng.choice([
        "The job is still running.", "not ready yet", "Your file is being made.", "No result yet.", "Try again later.", "ETA 12 min", "busy",
        "We are still at it.", "compiling…", "Almost there", "Please wait.", "The upload is in progress", "Ready soon.", "Job 17 is queued", "pending",
        "Build running", "Not finished", "Check back in a minute", "Still processing your request", "40 % done",
    ])  # fmt: skip
    return polled(rng, lambda *_: sentence)


def polling_progress(rng: random.Random) -> Run:
    word = rng.choice(["running", "processing", "working", "RUNNING"])
    shape: Callable[[int, int], Any] = rng.choice([
        lambda n, of: {"state": word, "progress": 100 * n // of}, lambda n, of: f"{n} of {of} parts", lambda n, of: {"left": of - n},
        lambda n, of: {"progress": n / of}, lambda n, of: {"processed": 10 * n, "total": 10 * of}, lambda n, of: f"{100 * n // of}%",
        lambda n, of: {"percent_complete": 100 * n // of}, lambda n, of: {"status": word, "step": n}, lambda n, of: {"completed": n, "total": of},
        lambda n, of: f"Progress: {n}/{of}", lambda n, of: {"status": word, "message": f"step {n}"}, lambda n, of: {"queue_position": of - n},
    ])  # fmt: skip
    return polled(rng, shape)


def polling_with_plateaus(rng: random.Random) -> Run:
    key = rng.choice(["progress", "percent_complete", "percent"])
    seen = sorted(rng.choice([0, 10, 50, 90]) for _ in range(20))
    return polled(rng, lambda n, _: {key: seen[n]})


def polling_through_states(rng: random.Random) -> Run:
    states = ("queued", "starting", "running", "finalizing")
    return polled(rng, lambda n, of: {"status": states[4 * n // of]})


def polling_with_a_clock(rng: random.Random) -> Run:
    start, word = datetime(2026, 11, 22, 9, tzinfo=UTC), rng.choice(PENDING)
    return polled(
        rng,
        lambda n, _: {
            "status": word,
            "checked_at": (start + timedelta(seconds=5 * n)).isoformat(),
            "request_id": f"r{n}",
        },
    )


def polling_with_waits(rng: random.Random) -> Run:
    looks, apart = rng.randint(4, 20), rng.random() < 0.5
    wait, asked = ("wait", {"seconds": 5}), ("job_status", {"job_id": 1})
    rounds = [[wait], [asked]] * looks if apart else [[wait, asked]] * looks
    pending, done = [("ok", "ok"), ("ok", {"status": "queued"})], [("ok", "ok"), ("ok", {"status": "done"})]
    return steps(*rounds), gives(*pending * (looks - 1), *done)


def polling_several(rng: random.Random) -> Run:
    """Several jobs, one after the other, until all are done; in one message or in turn."""
    jobs, looks = rng.randint(2, 4), rng.randint(3, 10)
    asked: list[Wish] = [("job_status", {"job_id": n}) for n in range(jobs)]
    each: list[Sequence[Wish]] = [asked] if rng.random() < 0.5 else [[one] for one in asked]
    rounds = each * (looks + 1)
    return steps(*rounds), gives(
        *[("ok", {"status": "running"})] * (looks * jobs), *[("ok", {"status": "done"})] * jobs
    )


def polling_as_declared(rng: random.Random) -> Run:
    """The tool says nothing of waiting, but was declared to be one that is asked again."""
    looks = rng.randint(4, 20)
    return steps(*[[("build_status", {})]] * (looks + 1)), gives(
        *[("ok", rng.choice(["red", [], None]))] * looks, ("ok", "green")
    )


def watching_a_number(rng: random.Random) -> Run:
    """What is measured goes up and down."""
    looks, exact = rng.randint(4, 12), rng.random() < 0.5
    values = [rng.randint(100, 999) if exact else round(20 + 5 * rng.random(), 2) for _ in range(looks)]
    return steps(*[[("stock_price", {"symbol": "ACME"})]] * looks), gives(*[("ok", {"price": one}) for one in values])


def watching_what_grows(rng: random.Random) -> Run:
    """A number that rises, by another step each time."""
    looks = rng.randint(4, 12)
    values = [100 * n * n + rng.randint(1, 40) for n in range(looks)]
    return steps(*[[("query_db", {"table": "orders"})]] * looks), gives(
        *[("ok", {"rows": one, "table": "orders"}) for one in values]
    )


def watching_what_grows_evenly(rng: random.Random) -> Run:
    """What is counted is work that goes on, a few things between two looks, and nothing says of how many."""
    by, begin, asked = rng.choice([2, 7, 25, 500, 4096]), rng.choice([0, 3, 900]), look(rng)
    shape: Callable[[int], Any] = rng.choice([
        lambda n: {"rows_written": n}, lambda n: f"Moved {n} objects", lambda n: {"table": "orders", "imported": n, "failed": 0}, lambda n: {"credit": n},
        lambda n: f"indexed {n} documents so far", lambda n: {"stats": {"bytes": n, "errors": 0}}, lambda n: {"downloaded": n, "unit": "kB"}, lambda n: n,
    ])  # fmt: skip
    looks = rng.randint(4, 20)
    return steps(*[asked] * (looks + 1)), gives(
        *[("ok", shape(begin + by * n)) for n in range(looks)], ("ok", "all there")
    )


POLLING: tuple[Callable[[random.Random], Run], ...] = (
    polling_a_state, polling_a_no, polling_a_sentence, polling_progress, polling_with_plateaus, polling_through_states, polling_with_a_clock, polling_with_waits,
    polling_several, polling_as_declared, watching_a_number, watching_what_grows, watching_what_grows_evenly,
)  # fmt: skip
