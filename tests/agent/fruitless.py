"""Runs that never end by themselves although they try something else each time; as in `runaways`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.agent.acting import Outcome, Wish
from tests.agent.runaways import (
    REPEATING,
    WORDS,
    Case,
    arguments,
    case,
    fixed,
    found,
    gives,
    nothing,
    page,
    text,
    token,
    wish,
)

ERRORS = (
    "permission denied", "KeyError: 'id'", "404 Not Found", "Invalid API key", "relation does not exist", "ValueError: bad date", "HTTPError: 403 Forbidden",
    "card declined", "ValueError: 503 is no such room",
)  # fmt: skip
PASSING = (
    "ConnectionError: connection refused", "HTTPError: 500 Internal Server Error", "timed out after 30 s", "HTTPError: 503 Service Unavailable",
    "HTTPError: 429 Too Many Requests", "ReadTimeout: no answer", "502", "status code: 504", "overloaded",
)  # fmt: skip


def errors(rng: random.Random, among: tuple[str, ...] = ERRORS, bound: int = 4) -> Case:
    same, kind, error = [wish(rng)], rng.choice(["error", "error", "timeout"]), rng.choice(among)
    ticks, fresh, form = (
        iter(range(1_000)),
        random.Random(rng.random()),
        rng.choice(["{}", "{} (attempt {})", "{} [{}]", "{}, request id {}"]),
    )
    return case(
        rng, lambda _: same, lambda *_: (kind, form.format(error, rng.choice([next(ticks), token(fresh)]))), bound
    )


def errors_that_may_pass(rng: random.Random) -> Case:
    """They never do: twice as many tries are worth it."""
    return errors(rng, PASSING, 8)


def errors_whatever_is_asked(rng: random.Random) -> Case:
    """The same error for other words, other numbers, other nonces."""
    fresh, error = random.Random(rng.random()), rng.choice(ERRORS)
    ask: Callable[[int], Any] = rng.choice([
        lambda n: {"query": text(fresh, 4)}, lambda n: {"sql": f"SELECT {text(fresh, 1)} FROM {text(fresh, 1)} WHERE a = {n}"}, lambda n: {"id": n},
        lambda n: {"path": f"/tmp/out_{n}.txt"}, lambda n: {"url": f"https://a.example/v{n}/x"}, lambda n: {"command": f"make {text(fresh, 2)}"},
    ])  # fmt: skip
    return case(rng, lambda turn: [("query_db", ask(turn))], lambda *_: ("error", error))


def unknown_tools(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return case(rng, lambda _: [(f"{fresh.choice(WORDS)}_{fresh.randint(1, 99)}", arguments(fresh))], fixed(rng))


def misfits(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return case(
        rng,
        lambda turn: [
            ("strict", fresh.choice([{}, {"n": text(fresh)}, {"m": turn}, '{"n": ', f"[{turn}]", {"n": None}]))
        ],
        fixed(rng),
    )


def denied(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return case(rng, lambda _: [("risky", arguments(fresh))], fixed(rng))


def refused_in_turn(rng: random.Random) -> Case:
    """Denied, unknown, not fitting: one after the other."""
    fresh = random.Random(rng.random())
    ways: list[Callable[[], Wish]] = [
        lambda: ("risky", arguments(fresh)),
        lambda: (fresh.choice(WORDS), {}),
        lambda: ("strict", {"n": text(fresh)}),
    ]
    return case(rng, lambda turn: [ways[turn % 3]()], fixed(rng))


def reworded(rng: random.Random, what: Any = None) -> Case:
    """Other words, the same outcome."""
    fresh, key = random.Random(rng.random()), rng.choice(["query", "q", "question", "search_query", "searchText"])
    topic = text(rng, 2)
    forms = [
        "how to {}",
        "{} guide",
        "what is {} exactly",
        "best {} tutorial",
        "{} explained",
        "latest {} news",
        "{} examples {}",
    ]
    ask: Callable[[], str] = rng.choice(
        [lambda: text(fresh, fresh.randint(2, 6)), lambda: fresh.choice(forms).format(topic, text(fresh, 1))]
    )
    extra: Callable[[int], dict[str, Any]] = rng.choice(
        [lambda n: {}, lambda n: {"limit": n + 5}, lambda n: {"page": fresh.randint(1, 3)}, lambda n: {"lang": "en"}]
    )
    return case(
        rng, lambda turn: [("web_search", {key: ask(), **extra(turn)})], gives(nothing(rng) if what is None else what)
    )


def reworded_with_hits(rng: random.Random) -> Case:
    return reworded(rng, found(rng))


def reworded_and_echoed(rng: random.Random) -> Case:
    """Nothing, said back with the words that were asked."""
    fresh, form = random.Random(rng.random()), rng.randrange(3)

    def tools(_: str, asked: Any) -> Outcome:
        said = asked["query"]
        return "ok", ({"query": said, "results": []}, f"No results for '{said}'.", {"hits": [], "searched": said})[form]

    return case(rng, lambda _: [("search", {"query": text(fresh, 4)})], tools)


def differently_empty(rng: random.Random) -> Case:
    """The same question, the same nothing, and one thing in it that is new each time."""
    same, fresh, ticks = [wish(rng)], random.Random(rng.random()), iter(range(1, 1_000))
    shape: Callable[[], Any] = rng.choice([
        lambda: f"Tried {next(ticks)} shards, nothing there.", lambda: f"search {fresh.getrandbits(32):08x}: no hits", lambda: {"hits": [], "hash": token(fresh)},
        lambda: {"results": [], "meta": {}, "quota_left": 900 - next(ticks)}, lambda: {"results": [], "took_ms": fresh.randint(1, 99), "hint": text(fresh, 2)},
        lambda: f"I could not find anything about {text(fresh, 2)}.",
    ])  # fmt: skip
    return case(rng, lambda _: same, lambda *_: ("ok", shape()))


def past_the_end(rng: random.Random) -> Case:
    key, by, fresh = (
        rng.choice(["page", "offset", "skip", "start", "cursor", "page_token", "pageNumber"]),
        rng.choice([1, 10, 50]),
        random.Random(rng.random()),
    )
    shape: Callable[[Any], Any] = rng.choice(
        [
            lambda at: [],
            lambda at: {"items": [], "page": at},
            lambda at: "No more results.",
            lambda at: {"results": [], key: at},
        ]
    )
    value: Callable[[int], Any] = (
        (lambda n: token(fresh, 20)) if key in ("cursor", "page_token") else (lambda n: (n + 3) * by)
    )
    return case(
        rng,
        lambda turn: [("list_items", {"filter": "open", key: value(turn)})],
        lambda _, asked: ("ok", shape(asked[key])),
    )


def pages_past_their_total(rng: random.Random) -> Case:
    """The list says how long it is; the model goes on after its end."""
    total, key = rng.randint(1, 5), rng.choice(["total", "pages", "totalCount"])
    return case(rng, lambda turn: [("list_items", {"page": total + turn})], gives({"items": [], key: total}))


def pages_that_are_one(rng: random.Random) -> Case:
    key, what = rng.choice(["page", "offset", "pageNumber", "skip"]), found(rng)
    what = [what] if isinstance(what, str) else what
    return case(
        rng, lambda turn: [("list_items", {"filter": text(random.Random(1), 1), key: turn})], gives({"items": what})
    )


def wherever_it_looks(rng: random.Random) -> Case:
    """A long page, the same whatever is fetched."""
    fresh, what = random.Random(rng.random()), "Please log in to go on.\n" + page(rng)
    form: Callable[[int], str] = rng.choice(
        [lambda n: f"https://a.example/{token(fresh)}", lambda n: f"docs/{text(fresh, 2)}.md", lambda n: f"host{n}"]
    )
    return case(rng, lambda turn: [("fetch_page", {"url": form(turn)})], gives(what), 16)


def whatever_page_it_looks_at(rng: random.Random) -> Case:
    """The same, where only the place in a list or the words of a query differ."""
    fresh, what = random.Random(rng.random()), "Please log in to go on.\n" + page(rng)
    wishes: Callable[[int], Wish] = rng.choice(
        [
            lambda n: ("fetch_page", {"url": f"https://a.example/p/{n}"}),
            lambda n: ("fetch_page", {"url": f"https://a.example/list?_={fresh.random()}"}),
            lambda n: ("list_items", {"offset": 10 * n}),
            lambda n: ("search", {"query": text(fresh, 3)}),
        ]
    )
    return case(rng, lambda turn: [wishes(turn)], gives(what))


def empty_files(rng: random.Random) -> Case:
    """Weak evidence: other names, and nothing new."""
    return case(
        rng,
        lambda turn: [("read_file", {"path": f"{WORDS[turn % 30]}/{turn}.txt"})],
        gives(rng.choice(["", {"size": 0}, "ok"])),
        34,
    )


def same_deed_in_other_words(rng: random.Random) -> Case:
    fresh = random.Random(rng.random())
    return case(
        rng,
        lambda _: [("send_message", {"to": "bob", "body": text(fresh, 9)})],
        lambda *_: ("ok", {"sent": True, "id": token(fresh)}),
        34,
    )


def waiting_for_ever(rng: random.Random) -> Case:
    return case(
        rng,
        lambda _: [("job_status", {"id": 7})],
        gives(rng.choice([{"status": "running"}, "not ready yet", {"done": False}])),
        24,
    )


def told_a_count(rng: random.Random) -> Case:
    """The same look, whose result differs in a number that rises: by one, as often as it was asked, or by more, as work would."""
    by, begin, words = rng.choice([1, 1, 1, 2, 10, 1000]), rng.randint(0, 5000), text(rng, 5)
    ticks, what, same = iter(range(begin, begin + 1_000_000, by)), found(rng), [wish(rng)]
    shape: Callable[[], Any] = rng.choice([
        lambda: {"result": what, "count": next(ticks)}, lambda: f"{words}; call {next(ticks)}", lambda: {"visits": next(ticks), "page": "home"},
        lambda: [next(ticks), words],
    ])  # fmt: skip
    return case(rng, lambda _: same, lambda *_: ("ok", shape()), 8 if by == 1 else 24)


def wrote_a_count(rng: random.Random) -> Case:
    """The same deed, whose receipt counts."""
    by, same = rng.choice([1, 5]), [("press", {"key": text(rng, 1)})]
    ticks = iter(range(1, 1_000, by))
    return case(rng, lambda _: same, lambda *_: ("ok", {"pressed": next(ticks)}), 8)


def fails_and_asks_for_more(rng: random.Random) -> Case:
    return case(
        rng, lambda _: [("inventory", {})], lambda *_: ("error", "503 Service Unavailable, please try again later"), 8
    )


RUNAWAYS: tuple[Callable[[random.Random], Case], ...] = (
    *REPEATING, errors, errors_whatever_is_asked, unknown_tools, misfits, denied, refused_in_turn, reworded, reworded_with_hits,
    reworded_and_echoed, differently_empty, past_the_end, pages_that_are_one, whatever_page_it_looks_at, pages_past_their_total,
)  # fmt: skip
"""Of these four times the pattern is enough."""
WEAK: tuple[Callable[[random.Random], Case], ...] = (
    empty_files,
    same_deed_in_other_words,
    waiting_for_ever,
    fails_and_asks_for_more,
    errors_that_may_pass,
    told_a_count,
    wherever_it_looks,
    wrote_a_count,
)
"""What could as well be work: these end, but later."""
