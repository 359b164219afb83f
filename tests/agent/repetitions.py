"""Runs that repeat themselves for a reason; as in `polls`."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from tests.agent.acting import READS, Outcome, Wish
from tests.agent.polls import POLLING, Run, gives, look, steps
from tests.agent.runaways import WORDS, page, text, token


def paging(rng: random.Random) -> Run:
    pages, key = rng.randint(4, 30), rng.choice(["cursor", "page", "offset", "page_token", "start", "skip", "after"])
    fresh = random.Random(rng.random())
    value: Callable[[int], Any] = (
        (lambda n: token(fresh)) if key in ("cursor", "page_token", "after") else (lambda n: 20 * n)
    )
    rounds: list[list[Wish]] = [[("list_items", {"filter": "open", key: value(n)})] for n in range(pages)]
    full: Callable[[int], Any] = rng.choice([
        lambda n: {"items": [text(rng, 4) for _ in range(3)], "next": 20 * (n + 1)}, lambda n: [{"id": 10 * n + at} for at in range(3)], lambda _: page(rng),
        lambda n: {"page": n, "items": [f"item-{n}-{at}" for at in range(5)]}, lambda n: f"page {n}: {text(rng, 3)}", lambda n: {"rows": [n], "has_more": True},
    ])  # fmt: skip
    return steps(*rounds), gives(*[("ok", full(n)) for n in range(pages - 1)], ("ok", {"items": [], "next": None}))


def sparse_paging(rng: random.Random) -> Run:
    """What is filtered for is rare: most pages are empty, and each says how many there are."""
    pages, by = rng.randint(5, 20), rng.choice([1, 10, 100])
    key = "page" if by == 1 else rng.choice(["offset", "skip", "start"])
    end: dict[str, int] = rng.choice(
        [{"total": by * pages + 1}, {"total_pages": by * pages + 1}, {"totalCount": 2 * by * pages}]
    )
    rounds: list[list[Wish]] = [[("list_items", {"filter": "open", key: by * n})] for n in range(pages)]
    outcomes: list[Outcome] = [("ok", {"items": [], **end})] * (pages - 1)
    return steps(*rounds), gives(*outcomes, ("ok", {"items": [{"id": 7}], **end}))


def checks(rng: random.Random) -> Run:
    """One thing after the other is looked at, and much is said of each: the same."""
    count = rng.randint(4, 14)
    form: Callable[[str], Wish] = rng.choice([
        lambda word: ("probe", {"host": f"{word}.internal"}), lambda word: ("run_tests", {"path": f"tests/{word}"}), lambda word: ("lookup_customer", {"id": word}),
        lambda word: ("probe", {"command": f"ruff check {word}"}), lambda word: ("fetch_page", {"url": f"https://{word}.example/healthz"}),
        lambda word: ("search", {"query": word}),
    ])  # fmt: skip
    answer = rng.choice(
        [page(rng) + page(rng), {"up": True, "parts": [{"name": word, "ok": "yes, and fast"} for word in WORDS[:12]]}]
    )
    return steps(*[[form(word)] for word in WORDS[:count]]), gives(*[("ok", answer)] * count)


FAILURES = (
    "HTTPError: 503 Service Unavailable",
    "timed out after 30 s",
    "ConnectionError: reset by peer",
    "429 Too Many Requests",
    "500",
    "database is locked",
)


def retries(rng: random.Random) -> Run:
    """Every item fails up to three times before it works."""
    rounds: list[list[Wish]] = []
    outcomes: list[Outcome] = []
    for item in range(rng.randint(1, 8)):
        failures = rng.randint(0, 3)
        rounds += [[(rng.choice(["get_order", "add_item"]), {"order_id": item})]] * (failures + 1)
        outcomes += [("error", rng.choice(FAILURES))] * failures + [("ok", {"ok": True, "id": item})]
    return steps(*rounds), gives(*outcomes)


def retries_with_numbers(rng: random.Random) -> Run:
    failures, error = rng.randint(1, 3), rng.choice(FAILURES)
    rounds: list[list[Wish]] = [[("web_search", {"query": "x", "attempt": n})] for n in range(failures + 1)]
    return steps(*rounds), gives(*[("error", f"{error} (attempt {n})") for n in range(failures)], ("ok", [text(rng)]))


def patient_retries(rng: random.Random) -> Run:
    """The error asks to be tried again."""
    failures = rng.randint(4, 7)
    error = rng.choice(
        [
            "429 Too Many Requests, retry after 2 s",
            "Service unavailable, please try again later",
            "overloaded; try again",
        ]
    )
    return steps(*[look(rng)] * (failures + 1)), gives(*[("error", error)] * failures, ("ok", "there"))


def unlucky_retries(rng: random.Random) -> Run:
    """A server that is only starting, or has much to do: the error asks for nothing, and the next try or the one after it works."""
    failures, asked = rng.randint(4, 6), rng.choice([look(rng), [("fetch_page", {"url": "http://localhost:8080/up"})]])
    error = rng.choice([
        "HTTP 503", "Error 502: Bad Gateway", "429 Too Many Requests", "ConnectTimeout: https://a.example", "the request timed out", "connection reset by peer",
        "[Errno 111] Connection refused", "temporarily unavailable", "Rate limit exceeded", "model is overloaded", "status 500", "504 Gateway Time-out",
    ])  # fmt: skip
    return steps(*[asked] * (failures + 1)), gives(*[("error", error)] * failures, ("ok", {"up": True}))


def corrections(rng: random.Random) -> Run:
    """Arguments that do not fit, up to three times, then some that do."""
    rounds = [[("strict", {"n": text(rng)})] for _ in range(rng.randint(1, 3))]
    return steps(*rounds, [("strict", {"n": 1})]), gives(("ok", "fine"))


def items(rng: random.Random) -> Run:
    """The same question about one thing after the other, and each is answered alike."""
    count, at = rng.randint(4, 20), rng.randint(1, 9_000)
    names: Callable[[int], Any] = rng.choice([
        lambda n: at + n, lambda n: WORDS[n], lambda n: f"{WORDS[n]}_{n}", lambda n: f"INV-{at + n}", lambda n: f"src/{WORDS[n]}/mod{n}.py", lambda n: f"Room {n}",
        lambda n: f"{WORDS[n].title()} {WORDS[-n].title()}", lambda n: f"{WORDS[n]}@example.org", lambda n: f"https://a.example/items/{at + n}", lambda n: [at + n],
        lambda n: f"https://a.example/items?id={at + n}", lambda n: token(rng), lambda n: f"10.0.0.{n}", lambda n: {"type": "room", "name": WORDS[n]},
    ])  # fmt: skip
    key = rng.choice(
        [
            "id",
            "room",
            "module",
            "server",
            "flag",
            "size",
            "person",
            "invoice",
            "value",
            "url",
            "path",
            "dish",
            "name",
            "symbol",
            "department",
            "key",
        ]
    )
    answer: Any = rng.choice([
        {"free": True}, {"paid": False}, "No issues found.", {"state": "shipped"}, [], "", None, "ok", {"errors": []}, {"enabled": False}, "no", 0, True,
        {"in_stock": False, "size": "M"}, "no matches", {"count": 0}, {"results": []}, "clean", {"sanctioned": False, "matches": []}, [{"count": 0}], "paid",
        {"status": "ok", "warnings": 0}, "No article.", {"valid": True, "reason": None}, "not found", {"alarm": False, "battery": "low"}, {"status": "pending"},
    ])  # fmt: skip
    tool, more = rng.choice(READS), dict(rng.choice([{}, {"slot": "morning"}, {"lang": "en"}]))
    return steps(*[[(tool, {key: names(n), **more})] for n in range(count)]), gives(*[("ok", answer)] * count)


def texts(rng: random.Random) -> Run:
    """One text after the other is judged, or written down, alike."""
    count, key = (
        rng.randint(4, 15),
        rng.choice(["text", "comment", "message", "thought", "paragraph", "content", "body", "value"]),
    )
    answer = rng.choice(
        [
            {"valid": True},
            {"errors": []},
            {"flagged": False, "reason": None},
            "Thought recorded.",
            "No issues found.",
            {"language": "en"},
            "ok",
        ]
    )
    rounds: list[list[Wish]] = [
        [("validate", {key: f"{text(rng, 9).capitalize()}.", "lang": "en"})] for _ in range(count)
    ]
    return steps(*rounds), gives(*[("ok", answer)] * count)


def files(rng: random.Random) -> Run:
    count = rng.randint(4, 30)
    what: Callable[[int], Any] = rng.choice([
        lambda n: "" if n < 20 else text(rng, 4), lambda n: page(rng), lambda n: f"contents of src/part{n}.py", lambda n: {"path": f"src/part{n}.py", "lines": n},
    ])  # fmt: skip
    return steps(*[[("read_file", {"path": f"src/part{n}.py"})] for n in range(count)]), gives(
        *[("ok", what(n)) for n in range(count)]
    )


def days(rng: random.Random) -> Run:
    count, start = rng.randint(4, 20), date(2026, 11, 22)
    rounds: list[list[Wish]] = [
        [("calendar", {"day": str(start + timedelta(days=n)), "user": "ann"})] for n in range(count)
    ]
    return steps(*rounds), gives(*[("ok", rng.choice([[], {"events": []}, "free"]))] * count)


def slots(rng: random.Random) -> Run:
    count = rng.randint(4, 9)
    rounds: list[list[Wish]] = [
        [("calendar", {"from": f"2026-11-22T{n + 9:02}:00:00Z", "room": "Blue"})] for n in range(count)
    ]
    return steps(*rounds), gives(*[("ok", {"free": False})] * count)


def writes(rng: random.Random) -> Run:
    count, tool = rng.randint(4, 25), rng.choice(["add_item", "send_message", "create_ticket", "set_value"])
    answer: Callable[[int], Any] = rng.choice([
        lambda _: "ok", lambda _: {"ok": True}, lambda n: {"id": n, "created": True}, lambda _: "", lambda _: "Your message was sent successfully to its reader.",
        lambda _: {"status": "queued"}, lambda n: f"Created T-{n}.",
    ])  # fmt: skip
    what: Callable[[int], Any] = rng.choice(
        [
            lambda n: {"title": text(rng, 3), "n": n},
            lambda n: {"text": f"note {n}"},
            lambda n: {"key": WORDS[n], "value": 1},
        ]
    )
    return steps(*[[(tool, what(n))] for n in range(count)]), gives(*[("ok", answer(n)) for n in range(count)])


def commands(rng: random.Random) -> Run:
    count = rng.randint(4, 12)
    rounds: list[list[Wish]] = [[("run_command", {"command": f"mkdir -p build/{WORDS[n]}"})] for n in range(count)]
    return steps(*rounds), gives(*[("ok", "")] * count)


def sums(rng: random.Random) -> Run:
    count = rng.randint(4, 12)
    return steps(*[[("calculator", {"expression": f"{n} * 7 - {n * 7}"})] for n in range(count)]), gives(
        *[("ok", rng.choice([0, "0"]))] * count
    )


def tables(rng: random.Random) -> Run:
    count = rng.randint(4, 9)
    rounds: list[list[Wish]] = [[("query_db", {"sql": f"SELECT count(*) FROM {WORDS[n]}"})] for n in range(count)]
    return steps(*rounds), gives(*[("ok", rng.choice([[{"count": 0}], [[0]]]))] * count)


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
    tries = rng.randint(4, 12)
    rounds: list[list[Wish]] = []
    for n in range(tries):
        rounds += [[("edit_file", {"path": "main.py", "text": f"{text(rng)} = {n}"})], [("run_tests", {})]]
    outcomes = [("ok", "ok"), ("ok", "2 failed, 10 passed")] * (tries - 1) + [("ok", "ok"), ("ok", "12 passed")]
    return steps(*rounds), gives(*outcomes)


def acts_and_looks(rng: random.Random) -> Run:
    """One thing after the other is done, and each time the same list is looked at, which grows."""
    count = rng.randint(4, 10)
    rounds: list[list[Wish]] = []
    for n in range(count):
        rounds += [[("add_item", {"name": WORDS[n]})], [("list_items", {})]]
    outcomes: list[Outcome] = [
        one for n in range(count) for one in (("ok", {"ok": True}), ("ok", list(WORDS[: n + 1])))
    ]
    return steps(*rounds), gives(*outcomes)


def turns_of_pages(rng: random.Random) -> Run:
    """The same deed again, which shows another thing each time."""
    count = rng.randint(4, 20)
    return steps(*[[("press", {"key": "PageDown"})]] * count), gives(
        *[("ok", page(rng) if rng.random() < 0.9 else text(rng, 5)) for _ in range(count)]
    )


REPETITIONS: tuple[Callable[[random.Random], Run], ...] = (
    *POLLING, paging, sparse_paging, checks, retries, retries_with_numbers, patient_retries, unlucky_retries, corrections, items, texts, files, days, slots, writes, commands, sums, tables, searches,
    edits, acts_and_looks, turns_of_pages,
)  # fmt: skip
