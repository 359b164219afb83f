"""Runs that never end by themselves, and runs that only look like it: each made from a seed.

A maker gives a model, its tools, the rounds of useful work before, and the rounds of its pattern.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.agent.acting import Model, Outcome, Tools, Wish

Case = tuple[Model, Tools, int, int]
WORDS = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima", "mike",
    "november", "oscar", "papa",
)  # fmt: skip
READS = ("search", "read_file", "get_order", "list_items", "calendar")


def text(rng: random.Random, words: int = 3) -> str:
    return " ".join(rng.sample(WORDS, words))


def arguments(rng: random.Random) -> dict[str, Any]:
    keys = ("query", "path", "order_id", "filter", "lang", "limit", "deep")
    return {key: rng.choice([text(rng), rng.randint(1, 99), True]) for key in rng.sample(keys, rng.randint(0, 4))}


def wish(rng: random.Random) -> Wish:
    return rng.choice(READS), arguments(rng)


def result(rng: random.Random) -> Any:
    return rng.choice(
        ["nothing found", [], {}, {"items": [text(rng)]}, {"ok": True}, text(rng, 12), 42, None, {"total": 0, "rows": []}]
    )  # fmt: skip


def wishes(rng: random.Random, count: int) -> list[Wish]:
    """So many that differ."""
    found: list[Wish] = []
    while len(found) < count:
        new = wish(rng)
        if new not in found:
            found.append(new)
    return found


def fixed(rng: random.Random) -> Tools:
    """Tools that give the same for the same, whenever they are asked."""
    seed = rng.random()
    return lambda name, asked: ("ok", result(random.Random(f"{seed}{name}{json.dumps(asked, sort_keys=True)}")))


def after_work(rng: random.Random, model: Model, tools: Tools, period: int) -> Case:
    """The same after a few steps that led somewhere."""
    before = rng.choice([0, 0, 1, 3])

    def acts(turn: int) -> Sequence[Wish] | str:
        return [("read_file", {"path": f"notes-{turn}.md"})] if turn < before else model(turn - before)

    def gives(name: str, asked: Any) -> Outcome:
        path = str(asked.get("path", ""))
        return ("ok", f"the notes of {path}") if path.startswith("notes-") else tools(name, asked)

    return acts, gives, before, period


def identical(rng: random.Random) -> Case:
    same = [wish(rng)]
    return after_work(rng, lambda _: same, fixed(rng), 1)


def reordered(rng: random.Random) -> Case:
    name, asked = rng.choice(READS), {"query": text(rng), "limit": 5, "deep": {"a": 1, "b": [1, 2]}}
    spaced = random.Random(rng.random())

    def model(_: int) -> list[Wish]:
        items = list(asked.items())
        spaced.shuffle(items)
        indent = spaced.choice([None, 1, 4])
        again = json.dumps(dict(items), indent=indent, separators=spaced.choice([(",", ":"), (", ", ": ")]))
        return [(name, again.replace("5", spaced.choice(["5", "5.0"])))]

    return after_work(rng, model, fixed_by_name(rng), 1)


def fixed_by_name(rng: random.Random) -> Tools:
    """Tools that give the same whatever they are asked."""
    seed = rng.random()
    return lambda name, _: ("ok", result(random.Random(f"{seed}{name}")))


def nonces(rng: random.Random) -> Case:
    name, asked = rng.choice([*READS, "add_item"]), {"query": text(rng), "order_id": rng.randint(1, 9)}
    key = rng.choice(["nonce", "timestamp", "attempt", "request_id", "retryCount", "_ts", "idempotency-key"])
    fresh = random.Random(rng.random())

    def model(turn: int) -> list[Wish]:
        value = fresh.choice([turn, f"{fresh.getrandbits(128):032x}", f"2026-11-22T10:00:{turn:02}Z"])
        return [(name, {**asked, key: value})]

    return after_work(rng, model, fixed_by_name(rng), 1)


def told_the_time(rng: random.Random) -> Case:
    """The same call, whose result differs in nothing but when it was made."""
    same, start = [wish(rng)], datetime(2026, 11, 22, rng.randint(0, 20), 0, 0, tzinfo=UTC)
    ticks = iter(range(1_000))
    shape = rng.randrange(4)

    def tools(_: str, __: Any) -> Outcome:
        at = start + timedelta(seconds=7 * next(ticks), microseconds=next(ticks))
        return "ok", (
            {"items": [], "fetched_at": at.isoformat()}, f"nothing new (as of {at:%H:%M:%S})",
            {"items": [], "timestamp": at.timestamp(), "elapsed_ms": next(ticks)}, f"no results, took {next(ticks)} ms",
        )[shape]  # fmt: skip

    return after_work(rng, lambda _: same, tools, 1)


def cycles(rng: random.Random) -> Case:
    period = rng.choice([2, 2, 2, 3, 4, 5, 8, 11])
    steps = wishes(rng, period)
    return after_work(rng, lambda turn: [steps[turn % period]], fixed(rng), period)


def parallel_cycles(rng: random.Random) -> Case:
    period = rng.choice([1, 2, 3, 4])
    steps, mixed = [wishes(rng, rng.randint(2, 5)) for _ in range(period)], random.Random(rng.random())

    def model(turn: int) -> list[Wish]:
        step = steps[turn % period]
        return mixed.sample(step, len(step))

    return after_work(rng, model, fixed(rng), period)


def in_any_order(rng: random.Random) -> Case:
    """A few steps, all of them every so many rounds, in another order each time."""
    period = rng.choice([2, 3, 4])
    steps, mixed = wishes(rng, period), random.Random(rng.random())
    order: list[Wish] = []

    def model(_: int) -> list[Wish]:
        if not order:
            order.extend(mixed.sample(steps, period))
        return [order.pop()]

    return after_work(rng, model, fixed(rng), period)


def errors(rng: random.Random) -> Case:
    same, kind = [wish(rng)], rng.choice(["error", "timeout"])
    counted = iter(range(1_000))
    message = rng.choice(
        ["ConnectionError: refused (attempt {})", "HTTPError: 503 after {} ms", "timed out", "No such id"]
    )
    return after_work(rng, lambda _: same, lambda *_: (kind, message.format(next(counted))), 1)


def reworded_errors(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return after_work(
        rng, lambda _: [("search", {"query": text(fresh, 4)})], lambda *_: ("error", "SyntaxError: unexpected token"), 1
    )


def unknown_tools(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return after_work(
        rng, lambda _: [(f"{fresh.choice(WORDS)}_{fresh.randint(1, 99)}", arguments(fresh))], fixed(rng), 1
    )


def misfits(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())

    def model(turn: int) -> list[Wish]:
        return [("strict", fresh.choice([{}, {"n": text(fresh)}, {"m": turn}, '{"n": ', f"[{turn}]", {"n": None}]))]

    return after_work(rng, model, fixed(rng), 1)


def denied(rng: random.Random) -> Case:
    fresh, vary = random.Random(rng.random()), rng.random() < 0.5
    same = arguments(rng)
    return after_work(rng, lambda turn: [("risky", {**same, "n": turn} if vary else same)], fixed(rng), 1) if vary else (
        after_work(rng, lambda _: [("risky", arguments(fresh))], fixed(rng), 1)
    )  # fmt: skip


def refused_in_turn(rng: random.Random) -> Case:
    """Denied, unknown, not fitting: one after the other."""
    fresh = random.Random(rng.random())
    ways: list[Callable[[], Wish]] = [
        lambda: ("risky", arguments(fresh)),
        lambda: (fresh.choice(WORDS), {}),
        lambda: ("strict", {"n": text(fresh)}),
    ]
    return after_work(rng, lambda turn: [ways[turn % 3]()], fixed(rng), 1)


def denied_and_read(rng: random.Random) -> Case:
    read = wish(rng)
    return after_work(rng, lambda turn: [read if turn % 2 else ("risky", {"n": turn})], fixed(rng), 2)


def reworded(rng: random.Random) -> Case:
    """Other words, the same outcome, to the letter."""
    fresh = random.Random(rng.random())
    same: Any = rng.choice(["no results", [], None, {"items": [], "total": 0}, text(rng, 14)])

    def model(turn: int) -> list[Wish]:
        extra: dict[str, Any] = fresh.choice(
            [{}, {"limit": turn + 5}, {"page": turn}, {"pageNumber": turn}, {"cursor": f"{fresh.getrandbits(64):x}"}]
        )
        return [("search", {"query": text(fresh, 3), **extra})]

    return after_work(rng, model, lambda *_: ("ok", same), 1)


def empty_handed(rng: random.Random) -> Case:
    """The same question, the same nothing, and one word in it that is new each time."""
    same, fresh, ticks = [wish(rng)], random.Random(rng.random()), iter(range(1, 1_000))
    shapes: list[Callable[[], Any]] = [
        lambda: f"Tried {next(ticks)} shards, nothing there.",
        lambda: f"search {fresh.getrandbits(32):08x}: no hits",
        lambda: f"0 rows (run {uuid.UUID(int=fresh.getrandbits(128))})",
        lambda: {"hits": [], "search_id": str(uuid.UUID(int=fresh.getrandbits(128)))},
        lambda: {"items": [], "hash": f"{fresh.getrandbits(64):x}"},
        lambda: {"results": [], "meta": {}, "quota_left": 900 - next(ticks)},
        lambda: {"data": {}, "api_calls_remaining": 900 - next(ticks)},
        lambda: {"user": "ann", "version": f"{fresh.getrandbits(128):032x}"},
    ]
    shape = rng.choice(shapes)
    return after_work(rng, lambda _: same, lambda *_: ("ok", shape()), 1)


def only_numbers(rng: random.Random) -> Case:
    """The same question, and a counter: that is looked at twice as often."""
    same, ticks = [wish(rng)], iter(range(1, 1_000))
    shape: Callable[[int], Any] = rng.choice(
        [lambda n: {"visits": n, "page": "home"}, lambda n: f"Ticket T-{n} is next", lambda n: [n, n + 1]]
    )
    return after_work(rng, lambda _: same, lambda *_: ("ok", shape(next(ticks))), 2)


def echoes(rng: random.Random) -> Case:
    """Other words, and an answer that says them back."""
    fresh = random.Random(rng.random())
    shape: Callable[[str], Any] = rng.choice(
        [
            lambda q: f"No match for {q!r}.",
            lambda q: {"query": q, "hits": []},
            lambda q: f"Your search - {q} - found nothing",
        ]
    )
    return after_work(
        rng, lambda _: [("search", {"query": text(fresh, 3)})], lambda _, asked: ("ok", shape(asked.get("query", ""))), 1
    )  # fmt: skip


def written_again(rng: random.Random) -> Case:
    """The same thing made again and again, with a receipt of its own each time."""
    same: list[Wish] = [("add_item", {"title": text(rng)})]
    fresh, ticks = random.Random(rng.random()), iter(range(1, 1_000))
    shapes: list[Callable[[], Any]] = [
        lambda: {"id": str(uuid.UUID(int=fresh.getrandbits(128))), "status": "open"},
        lambda: f"Created item {text(fresh)}",
        lambda: {"number": next(ticks), "state": "pending"},
        lambda: "ok",
    ]
    shape = rng.choice(shapes)
    return after_work(rng, lambda _: same, lambda *_: ("ok", shape()), 1)


def pauses(rng: random.Random) -> Case:
    same = rng.choice(["Let me think about that…", "One moment…"])
    return (lambda _: same), fixed(rng), 0, 1


RUNAWAYS: tuple[Callable[[random.Random], Case], ...] = (
    identical, reordered, nonces, told_the_time, cycles, parallel_cycles, in_any_order, errors, reworded_errors, unknown_tools,
    misfits, denied, refused_in_turn, denied_and_read, reworded, empty_handed, only_numbers, echoes, written_again, pauses,
)  # fmt: skip
