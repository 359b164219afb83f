"""Runs that never end by themselves, each made from a seed.

A maker gives a model, its tools, the rounds of useful work before, and the rounds after which it has to have ended.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.agent.acting import READS, WRITES, Model, Outcome, Tools, Wish

Case = tuple[Model, Tools, int, int]
WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "knoll",
    "lagoon",
    "marsh",
    "nook",
    "orchard",
    "prairie",
    "quarry",
    "ridge",
    "slope",
    "tundra",
    "upland",
    "vale",
    "woods",
    "yard",
    "zenith",
    "cliff",
    "delta",
    "estuary",
    "glade",
    "haven",
    "refund",
    "policy",
    "invoice",
    "shipping",
    "contract",
    "warranty",
]


def text(rng: random.Random, words: int = 3) -> str:
    return " ".join(rng.sample(WORDS, words))


def token(rng: random.Random, size: int = 12) -> str:
    return "".join(rng.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=size - 1)) + "7"


def arguments(rng: random.Random) -> dict[str, Any]:
    keys = (
        "query",
        "path",
        "order_id",
        "filter",
        "lang",
        "deep",
        "city",
        "user",
        "date",
        "url",
        "sku",
        "room",
        "symbol",
    )
    values = [
        text(rng),
        rng.randint(1, 99),
        True,
        rng.choice(WORDS),
        token(rng),
        [1, 2],
        {"a": rng.choice(WORDS)},
        f"{rng.random() * 90:.3f}",
    ]
    return {key: rng.choice(values) for key in rng.sample(keys, rng.randint(0, 4))}


def wish(rng: random.Random) -> Wish:
    return rng.choice(READS), arguments(rng)


def page(rng: random.Random) -> str:
    return "\n".join(text(rng, 9).capitalize() + "." for _ in range(rng.randint(5, 12)))


def found(rng: random.Random) -> Any:
    """What a search finds."""
    docs = [
        {"id": rng.randint(1, 99), "title": text(rng), "score": round(rng.random(), 3)}
        for _ in range(rng.randint(1, 4))
    ]
    return rng.choice(
        [
            {"results": docs},
            docs,
            [text(rng), text(rng)],
            page(rng),
            f"{text(rng, 6).capitalize()}.",
            {"answer": text(rng, 5)},
        ]
    )


def nothing(rng: random.Random) -> Any:
    return rng.choice([
        [], {}, None, "", {"results": []}, {"items": [], "total": 0}, "No results found.", "nothing found", {"data": {"hits": []}}, "0 results",
        {"message": "No documents matched."}, {"rows": [], "count": 0}, "not found", {"results": [], "next": None},
    ])  # fmt: skip


def result(rng: random.Random) -> Any:
    plain = [
        {"ok": True}, 42, {"temperature": 21.5, "unit": "C"}, {"status": "shipped", "id": 7}, "yes", {"status": "ok"}, {"price": 19.99}, "done",
    ]  # fmt: skip
    kind = rng.randrange(3)
    return found(rng) if kind == 0 else nothing(rng) if kind == 1 else rng.choice(plain)


def steps(rng: random.Random, count: int) -> list[Wish]:
    """So many that differ."""
    made: list[Wish] = []
    while len(made) < count:
        new = wish(rng)
        if new not in made:
            made.append(new)
    return made


def fixed(rng: random.Random) -> Tools:
    """Tools that give the same for the same, whenever they are asked."""
    seed = rng.random()
    return lambda name, asked: ("ok", result(random.Random(f"{seed}{name}{json.dumps(asked, sort_keys=True)}")))


def gives(what: Any) -> Tools:
    return lambda *_: ("ok", what)


def case(rng: random.Random, model: Model, tools: Tools, bound: int = 4) -> Case:
    """The same after a few steps that led somewhere."""
    before = rng.choice([0, 0, 1, 3, 6])

    def acts(turn: int) -> Sequence[Wish] | str:
        return [("read_file", {"path": f"notes-{turn}.md"})] if turn < before else model(turn - before)

    def outcome(name: str, asked: Any) -> Outcome:
        path = str(asked.get("path", ""))
        return ("ok", f"the notes of {path}: {turns[path]}") if path.startswith("notes-") else tools(name, asked)

    turns = {f"notes-{n}.md": text(random.Random(n), 5) for n in range(before)}
    return acts, outcome, before, bound


def identical(rng: random.Random) -> Case:
    same = [wish(rng)]
    return case(rng, lambda _: same, fixed(rng))


def written_again(rng: random.Random) -> Case:
    """The same deed again and again, each with a receipt of its own."""
    same, fresh = [(rng.choice(WRITES), {"title": text(rng), "to": "ann@example.org"})], random.Random(rng.random())
    receipt: Callable[[], Any] = rng.choice([
        lambda: {"ok": True}, lambda: {"id": f"T-{fresh.randint(1000, 9999)}", "status": "open"}, lambda: f"sent (id {token(fresh)})", lambda: "",
        lambda: {"status": "queued", "message_id": str(uuid.UUID(int=fresh.getrandbits(128)))}, lambda: {"created": True, "ticket_id": fresh.randint(1, 9**6)},
    ])  # fmt: skip
    return case(rng, lambda _: same, lambda *_: ("ok", receipt()))


def in_another_form(rng: random.Random) -> Case:
    name, asked = rng.choice(READS), {"query": text(rng), "limit": 5, "deep": {"a": 1, "b": [1, 2]}}
    spaced = random.Random(rng.random())

    def model(_: int) -> list[Wish]:
        items = list(asked.items())
        spaced.shuffle(items)
        again = json.dumps(
            dict(items), indent=spaced.choice([None, 1, 4]), separators=spaced.choice([(",", ":"), (" , ", ": ")])
        )
        return [
            (
                name,
                again.replace("5", spaced.choice(["5", "5.0"])).replace(
                    text_of, spaced.choice([text_of, f"  {text_of} ", text_of.upper()])
                ),
            )
        ]

    text_of = str(asked["query"])
    return case(rng, model, gives(result(rng)))


def nonces(rng: random.Random) -> Case:
    name, asked = rng.choice([*READS, "add_item"]), {"query": text(rng), "order_id": rng.randint(1, 9)}
    key = rng.choice([
        "nonce", "timestamp", "attempt", "request_id", "retryCount", "_ts", "idempotency-key", "ts", "_", "retry", "try", "seed", "trace_id", "cacheBuster",
        "attempt_number", "requestId", "iteration",
    ])  # fmt: skip
    fresh = random.Random(rng.random())

    def model(turn: int) -> list[Wish]:
        value = fresh.choice([turn, fresh.random(), token(fresh), f"2026-11-22T10:00:{turn:02}Z", 1763805600 + turn])
        return [(name, {**asked, key: value})]

    return case(rng, model, gives(result(rng)))


def numbered_tries(rng: random.Random) -> Case:
    base, form = text(rng, 4), rng.choice(["{} (attempt {})", "{} [retry {}]", "{} try #{}", "{} attempt {}"])
    return case(rng, lambda turn: [("search", {"query": form.format(base, turn + 1)})], gives(result(rng)))


def cache_busters(rng: random.Random) -> Case:
    base, fresh = f"https://{rng.choice(WORDS)}.example/{rng.choice(WORDS)}", random.Random(rng.random())
    form = rng.choice(["{}?ts={}", "{}?_={}", "{}#{}", "{}?nonce={}", "{}?q=a&cb={}", "{}?rand={}"])
    more = rng.random() < 0.2
    what = rng.choice(["Please enable JavaScript to view this page.", page(rng), "Access denied", {"ok": True}])
    return case(
        rng,
        lambda turn: [("fetch_page", {"url": base + "?" * turn if more else form.format(base, fresh.getrandbits(30))})],
        gives(what),
    )


def told_the_time(rng: random.Random) -> Case:
    """The same call, whose result differs in nothing but when it was made."""
    same, start = [wish(rng)], datetime(2026, 11, 22, rng.randint(0, 20), 0, 0, tzinfo=UTC)
    ticks, what = iter(range(1_000)), found(rng)
    shape = rng.randrange(5)

    def tools(_: str, __: Any) -> Outcome:
        at = start + timedelta(seconds=7 * next(ticks), microseconds=next(ticks))
        return "ok", (
            {"found": what, "fetched_at": at.isoformat()}, f"nothing new (as of {at:%H:%M:%S})", {"data": what, "timestamp": at.timestamp()},
            f"{text(random.Random(7), 5)}, took {next(ticks)} ms", {"items": what, "elapsed_ms": next(ticks), "server_time": int(at.timestamp())},
        )[shape]  # fmt: skip

    return case(rng, lambda _: same, tools)


def told_a_number(rng: random.Random) -> Case:
    """The same call, whose result differs in an id, or in what it says of itself, only."""
    same, fresh, begin = [wish(rng)], random.Random(rng.random()), rng.randint(0, 5000)
    ticks, what, words = iter(range(begin, begin + 10_000)), found(rng), text(rng, 5)
    shape: Callable[[], Any] = rng.choice([
        lambda: {"id": fresh.randint(1, 9999), "data": what}, lambda: f"Result #{next(ticks)}: {words}",
        lambda: {"request_id": token(fresh), "results": []}, lambda: f"{words} (ref {fresh.getrandbits(32):08x})",
        lambda: {"id": str(uuid.UUID(int=fresh.getrandbits(128))), "items": what}, lambda: {"attempts": next(ticks), "answer": words},
        lambda: {"data": what, "rate_limit_remaining": 9999 - next(ticks)}, lambda: {"session": token(fresh), "answer": words},
    ])  # fmt: skip
    return case(rng, lambda _: same, lambda *_: ("ok", shape()))


def shuffled(rng: random.Random) -> Case:
    same, hits, fresh = [wish(rng)], [text(rng) for _ in range(8)], random.Random(rng.random())
    return case(rng, lambda _: same, lambda *_: ("ok", {"hits": fresh.sample(hits, 8)}))


def ping_pong(rng: random.Random) -> Case:
    made = steps(rng, 2)
    return case(rng, lambda turn: [made[turn % 2]], fixed(rng), 8)


def moody_ping_pong(rng: random.Random) -> Case:
    """One half with other words each time, one with a clock in its result."""
    fresh, other, what, ticks = (
        random.Random(rng.random()),
        ("clock", {"zone": "UTC"}),
        nothing(rng),
        iter(range(1_000)),
    )

    def tools(name: str, _: Any) -> Outcome:
        return "ok", {"time": f"10:{next(ticks):02}:00"} if name == "clock" else what

    return case(rng, lambda turn: [other if turn % 2 else ("web_search", {"query": text(fresh, 3)})], tools, 8)


def cycles(rng: random.Random) -> Case:
    period = rng.choice([3, 3, 4, 5, 8])
    made = steps(rng, period)
    return case(rng, lambda turn: [made[turn % period]], fixed(rng), 4 * period)


def parallel(rng: random.Random) -> Case:
    period, mixed = rng.choice([1, 1, 2, 3]), random.Random(rng.random())
    made = [steps(rng, rng.randint(2, 5)) for _ in range(period)]
    return case(rng, lambda turn: mixed.sample(step := made[turn % period], len(step)), fixed(rng), 4 * period)


def in_any_order(rng: random.Random) -> Case:
    """A few steps, all of them every so many rounds, in another order each time."""
    period = rng.choice([2, 3, 4])
    made, mixed = steps(rng, period), random.Random(rng.random())
    order: list[Wish] = []

    def model(_: int) -> list[Wish]:
        if not order:
            order.extend(mixed.sample(made, period))
        return [order.pop()]

    return case(rng, model, fixed(rng), 4 * period)


def toggles(rng: random.Random) -> Case:
    key, values = text(rng, 1), rng.choice([(True, False), ("on", "off"), (1, 2)])
    return case(
        rng,
        lambda turn: [("set_value", {"key": key, "value": values[turn % 2]})],
        gives(rng.choice(["saved", {"ok": True}])),
        8,
    )


def pauses(rng: random.Random) -> Case:
    """No call, and the same words."""
    words = text(rng, 6)
    return case(rng, lambda _: f"{words}…", fixed(rng))


REPEATING: tuple[Callable[[random.Random], Case], ...] = (
    identical, written_again, in_another_form, nonces, numbered_tries, cache_busters, told_the_time, told_a_number, shuffled, ping_pong, moody_ping_pong, cycles,
    parallel, in_any_order, toggles, pauses,
)  # fmt: skip
