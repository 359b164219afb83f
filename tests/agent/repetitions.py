"""Runs that repeat themselves for a reason: each made from a seed, and each ends by itself with "done"."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.agent.acting import Model, Outcome, Tools, Wish
from tests.agent.runaways import text

Run = tuple[Model, Tools]
PENDING = ("pending", "queued", "running", "in_progress", "IN PROGRESS", "processing")


def steps(*rounds: Sequence[Wish]) -> Model:
    """Those rounds, then the answer."""
    return lambda turn: rounds[turn] if turn < len(rounds) else "done"


def gives(*outcomes: Outcome) -> Tools:
    """Those outcomes, in the order of the calls."""
    left: Iterator[Outcome] = iter(outcomes)
    return lambda *_: next(left)


def polling_the_same(rng: random.Random) -> Run:
    """The job says the very same until it is done."""
    looks, asked = rng.randint(4, 18), {"job_id": rng.randint(1, 99)}
    state = rng.choice(PENDING)
    shape = rng.choice(
        [{"status": state}, {"job": {"id": 7, "state": state}}, {"done": False, "result": None}, "The job is still running.", "not ready yet"]
    )  # fmt: skip
    outcomes = [("ok", shape)] * looks + [("ok", {"status": "done", "result": 42})]
    return steps(*[[("job_status", asked)]] * (looks + 1)), gives(*outcomes)


def polling_in_other_words(rng: random.Random) -> Run:
    """Words of states and of waiting that nobody listed: each service has its own."""
    looks = rng.randint(4, 18)
    word = rng.choice(
        [
            "UPDATE_IN_PROGRESS",
            "RUNNING",
            "warmingUp",
            "compiling",
            "rolling_out",
            "LAUNCHING",
            "AWAITING_REVIEW",
            "transcoding",
            "ENQUEUED",
            "live",
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
            "in-transit",
            "half open",
            "not_started",
            "Rendering",
            "PARTIALLY_PROVISIONED",
        ]
    )
    shape: Any = rng.choice(
        [
            {"id": 7, "status": word},
            {"deployment": {"name": "web", "state": word}},
            {"phase": word, "retries": 0},
            f"Status: {word}",
            f"job 7 has state={word}",
        ]
    )
    return steps(*[[("get_order", {"order_id": 7})]] * (looks + 1)), gives(*[("ok", shape)] * looks, ("ok", "done"))


def polling_in_sentences(rng: random.Random) -> Run:
    looks = rng.randint(4, 18)
    sentence = rng.choice(
        [
            "Your file is being made.",
            "No result yet.",
            "Try again later.",
            "ETA 12 min",
            "busy",
            "We are still at it.",
            "compiling…",
            "Almost there",
            "Please wait.",
            "The upload is in progress",
            "Ready soon.",
        ]
    )
    return steps(*[[("get_order", {"order_id": 7})]] * (looks + 1)), gives(*[("ok", sentence)] * looks, ("ok", "done"))


def receipts(rng: random.Random) -> Run:
    """Pages of a book that is turned by a tool that changes where it is open: the same call, another text each time."""
    pages = rng.randint(4, 20)
    return steps(*[[("edit_file", {"turn": "on"})]] * pages), gives(
        *[("ok", f"{n} " + " ".join(text(rng, 8) for _ in range(8))) for n in range(pages)]
    )


def counted(rng: random.Random) -> Run:
    """A counter, looked at a few times."""
    looks = rng.randint(4, 7)
    return steps(*[[("get_order", {"table": "orders"})]] * looks), gives(
        *[("ok", {"rows": 10 * n, "table": "orders"}) for n in range(looks)]
    )


def polling_for_a_yes(rng: random.Random) -> Run:
    """A tool that only says no, until it says yes."""
    looks = rng.randint(4, 18)
    no: Any = rng.choice([False, None, 0, "no", []])
    return steps(*[[("job_status", {"job_id": 7})]] * (looks + 1)), gives(*[("ok", no)] * looks, ("ok", True))


def polling_with_plateaus(rng: random.Random) -> Run:
    """It makes progress, but not all the time."""
    key = rng.choice(["progress", "percent_complete"])
    seen = sorted(rng.choice([0, 10, 50, 90]) for _ in range(rng.randint(4, 18)))
    return steps(*[[("job_status", {})]] * (len(seen) + 1)), gives(
        *[("ok", {key: part}) for part in seen], ("ok", {key: 100})
    )


def polling_with_a_clock(rng: random.Random) -> Run:
    looks, start = rng.randint(4, 18), datetime(2026, 11, 22, 9, tzinfo=UTC)
    outcomes = [
        ("ok", {"status": "pending", "checked_at": (start + timedelta(seconds=5 * n)).isoformat()})
        for n in range(looks)
    ]
    return steps(*[[("job_status", {})]] * (looks + 1)), gives(*outcomes, ("ok", "finished"))


def polling_with_progress(rng: random.Random) -> Run:
    looks = rng.randint(4, 30)
    shape: Callable[[int], Any] = rng.choice(
        [
            lambda n: {"state": "working", "progress": 3 * n},
            lambda n: f"{n} of {looks} parts",
            lambda n: {"left": looks - n},
        ]
    )
    return steps(*[[("job_status", {})]] * looks), gives(*[("ok", shape(n)) for n in range(looks)])


def polling_with_waits(rng: random.Random) -> Run:
    looks, apart = rng.randint(4, 15), rng.random() < 0.5
    wait, look = ("wait", {"seconds": 5}), ("job_status", {"job_id": 1})
    rounds = [[wait], [look]] * looks if apart else [[wait, look]] * looks
    pending, done = [("ok", "ok"), ("ok", {"status": "queued"})], [("ok", "ok"), ("ok", {"status": "done"})]
    return steps(*rounds), gives(*pending * (looks - 1), *done)


def polling_as_declared(rng: random.Random) -> Run:
    """The tool says nothing of waiting, but was declared to be one that is asked again."""
    looks = rng.randint(4, 18)
    return steps(*[[("build_status", {})]] * (looks + 1)), gives(*[("ok", "red")] * looks, ("ok", "green"))


def paging(rng: random.Random) -> Run:
    pages, key = rng.randint(4, 30), rng.choice(["cursor", "page", "offset", "page_token"])
    rounds: list[list[Wish]] = [[("list_items", {"filter": "open", key: 20 * n})] for n in range(pages)]
    whole = [("ok", {"items": [text(rng, 4) for _ in range(3)], "next": 20 * (n + 1)}) for n in range(pages - 1)]
    return steps(*rounds), gives(*whole, ("ok", {"items": [], "next": None}))


def retries(rng: random.Random) -> Run:
    """Every item fails up to three times before it works."""
    rounds: list[list[Wish]] = []
    outcomes: list[Outcome] = []
    for item in range(rng.randint(2, 8)):
        failures = rng.randint(0, 3)
        rounds += [[(rng.choice(["get_order", "add_item"]), {"order_id": item})]] * (failures + 1)
        outcomes += [("error", "HTTPError: 503 Service Unavailable")] * failures + [("ok", {"ok": True, "id": item})]
    return steps(*rounds), gives(*outcomes)


def corrections(rng: random.Random) -> Run:
    """Arguments that do not fit, up to three times, then some that do."""
    rounds = [[("strict", {"n": text(rng)})] for _ in range(rng.randint(1, 3))]
    return steps(*rounds, [("strict", {"n": 1})]), gives(("ok", "fine"))


def files(rng: random.Random) -> Run:
    count = rng.randint(4, 20)
    same = rng.random() < 0.5
    outcomes = [("ok", "" if same else text(rng, 10)) for _ in range(count)]
    return steps(*[[("read_file", {"path": f"src/part{n}/__init__.py"})] for n in range(count)]), gives(*outcomes)


def orders(rng: random.Random) -> Run:
    """One after the other, and all have come to the same."""
    count, key = rng.randint(4, 20), rng.choice(["order_id", "id", "orderNumber", "email"])
    return (
        steps(*[[("get_order", {key: 1_000 + n})] for n in range(count)]),
        gives(*[("ok", {"state": "shipped"})] * count),
    )


def days(rng: random.Random) -> Run:
    count, start = rng.randint(4, 20), date(2026, 11, 22)
    rounds: list[list[Wish]] = [[("calendar", {"day": str(start + timedelta(days=n))})] for n in range(count)]
    return steps(*rounds), gives(*[("ok", [])] * count)


def writes(rng: random.Random) -> Run:
    count = rng.randint(4, 25)
    return (
        steps(*[[("add_item", {"title": text(rng, 3), "n": n})] for n in range(count)]),
        gives(*[("ok", "ok")] * count),
    )


def sums(rng: random.Random) -> Run:
    count = rng.randint(4, 12)
    return (
        steps(*[[("calculator", {"expression": f"{n} - {n}"})] for n in range(count)]),
        gives(*[("ok", 0)] * count),
    )


def searches(rng: random.Random) -> Run:
    """Other words each time, some of which find nothing."""
    rounds: list[list[Wish]] = []
    outcomes: list[Outcome] = []
    for _ in range(rng.randint(2, 6)):
        for _ in range(empty := rng.randint(0, 3)):
            rounds.append([("search", {"query": text(rng, 4)})])
        outcomes += [("ok", {"results": []})] * empty
        rounds.append([("search", {"query": text(rng, 4)})])
        outcomes.append(("ok", {"results": [text(rng, 6)]}))
    return steps(*rounds), gives(*outcomes)


def edits(rng: random.Random) -> Run:
    """Change something, run the tests, which fail alike: again and again, until they do not."""
    tries = rng.randint(4, 15)
    rounds: list[list[Wish]] = []
    for n in range(tries):
        rounds += [[("edit_file", {"path": "main.py", "text": f"{text(rng)} {n}"})], [("run_tests", {})]]
    outcomes = [("ok", "ok"), ("ok", "2 failed, 10 passed")] * (tries - 1) + [("ok", "ok"), ("ok", "12 passed")]
    return steps(*rounds), gives(*outcomes)


REPETITIONS: tuple[Callable[[random.Random], Run], ...] = (
    polling_the_same, polling_in_other_words, polling_in_sentences, receipts, counted, polling_for_a_yes, polling_with_plateaus, polling_with_a_clock, polling_with_progress, polling_with_waits, polling_as_declared, paging, retries,
    corrections, files, orders, days, writes, sums, searches, edits,
)  # fmt: skip
