"""Shapes that were written once the rules stood, to see what they are worth for runs that nobody had in mind."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

from tests.agent.acting import Outcome, Wish
from tests.agent.polls import Run, gives, steps
from tests.agent.runaways import WORDS, Case, arguments, case, page, text, token
from tests.agent.runaways import gives as always


def with_metadata(rng: random.Random) -> Case:
    fresh, rows, asked = random.Random(rng.random()), [{"name": text(rng, 2), "n": n} for n in range(3)], arguments(rng)

    def tools(*_: Any) -> Outcome:
        meta = {
            "trace": {"span": token(fresh)},
            "generatedAt": f"2026-11-22T10:{fresh.randint(10, 59)}:11Z",
            "took": fresh.random(),
        }
        return "ok", {"data": rows, "meta": meta}

    return case(rng, lambda _: [("crm_contacts", asked)], tools)


def three_with_a_step(rng: random.Random) -> Case:
    """Three tools in turn, each told what step it is."""
    names, what = (
        rng.sample(["search", "kb_find", "weather", "lookup_customer"], 3),
        {"matches": [text(rng), text(rng)]},
    )
    key = rng.choice(["attempt_no", "iteration", "try_count"])
    return case(rng, lambda turn: [(names[turn % 3], {"query": "the same words", key: turn})], always(what), 12)


def asked_as_text(rng: random.Random) -> Case:
    fresh, topic = random.Random(rng.random()), text(rng, 2)
    forms = [
        "tell me about {}",
        "what is {}",
        "information on {}",
        "explain {}",
        "{} overview",
        "{} details please",
        "give me facts about {}",
        "who knows {}",
    ]
    key = rng.choice(["question", "prompt", "query", "search_term"])
    said = rng.choice(
        [
            "I don't have information on that.",
            "Sorry, I do not know.",
            {"answer": None, "sources": []},
            {"text": "No idea."},
        ]
    )
    return case(rng, lambda _: [("ask_docs", {key: fresh.choice(forms).format(topic)})], always(said))


def spaced_sql(rng: random.Random) -> Case:
    fresh, table = random.Random(rng.random()), text(rng, 1)

    def pad() -> str:
        return " " * fresh.randint(1, 3) + fresh.choice(["", "\n"])

    def model(_: int) -> list[Wish]:
        ending = fresh.choice(["", "  ", " -- again", " /* try */"])
        return [("query_db", {"sql": f"SELECT{pad()}*{pad()}FROM {table}{pad()}WHERE id = 3{ending}"})]

    return case(rng, model, always(rng.choice([[], [{"id": 3, "name": "x"}]])))


def failing_between_naps(rng: random.Random) -> Case:
    error = rng.choice(
        ["502 Bad Gateway", "ECONNRESET", "permission denied for relation x", "No such file or directory: 'a.txt'"]
    )
    tools: Callable[[str, Any], Outcome] = lambda name, _: ("ok", "ok") if name == "set_value" else ("error", error)  # noqa: E731
    nap: Wish = ("set_value", {"key": "note", "value": "tried"})
    bound = 16 if error in ("502 Bad Gateway", "ECONNRESET") else 8
    return case(rng, lambda turn: [nap if turn % 2 else ("read_file", {"path": "a.txt"})], tools, bound)


def nonce_within(rng: random.Random) -> Case:
    fresh, url = random.Random(rng.random()), f"https://{text(rng, 1)}.example/api"

    def model(_: int) -> list[Wish]:
        return [
            (
                "fetch_page",
                {"url": url, "headers": {"X-Request-Id": str(uuid.UUID(int=fresh.getrandbits(128))), "Accept": "*/*"}},
            )
        ]

    return case(rng, model, always(rng.choice([{"version": "1.2", "ok": True}, page(rng), "hello"])))


def counted_excuses(rng: random.Random) -> Case:
    form, ticks = (
        rng.choice(
            [
                "Nothing yet found after {} tries",
                "Could not parse, failure no {}",
                "Cache miss ({} so far)",
                "warning {}: stale index",
            ]
        ),
        iter(range(99)),
    )
    asked, bound = arguments(rng), 4 if form.startswith("Nothing") else 8
    return case(rng, lambda _: [("inventory", asked)], lambda *_: ("ok", form.format(next(ticks))), bound)


def punctuated(rng: random.Random) -> Case:
    fresh, words = random.Random(rng.random()), text(rng, 3).split()
    forms = ["{}!", "{}?", "{} ?", "{}...", '"{}"', "{} ", "{}!!"]
    what = rng.choice([[], {"results": []}, ["one hit", "another"], "No match for this."])
    return case(
        rng,
        lambda _: [("web_search", {"query": fresh.choice(forms).format(fresh.choice([" ".join, ", ".join])(words))})],
        always(what),
    )


def twins(rng: random.Random) -> Case:
    """The same two calls in every message, in any order, one of them twice at times."""
    one, other, fresh = (
        ("weather", {"city": text(rng, 1)}),
        ("geo", {"place": text(rng, 1)}),
        random.Random(rng.random()),
    )
    return case(
        rng,
        lambda _: fresh.choice([[one, other], [other, one], [one, other, one]]),
        lambda name, _: ("ok", {"of": name, "value": 3.5}),
    )


def reminders(rng: random.Random) -> Case:
    return case(
        rng, lambda turn: [("send_message", {"to": "bob", "subject": "Reminder", "attempt": turn, "body": "please reply soon"})],
        always(rng.choice(["sent", {"delivered": True}, {"error": "mailbox unavailable"}])),
    )  # fmt: skip


def past_the_last_line(rng: random.Random) -> Case:
    return case(
        rng,
        lambda turn: [("read_file", {"path": "a.log", "offset": 1000 + 200 * turn, "limit": 200})],
        always(rng.choice(["", "(end of file)", {"lines": []}])),
    )


def cities(rng: random.Random) -> Run:
    names, said = rng.sample(WORDS, 12), rng.choice(["sunny", {"sky": "clear", "wind": "calm"}, "Sunny, no wind."])
    return steps(*[[("weather", {"city": name.title()})] for name in names]), gives(*[("ok", said)] * 12)


def jobs_of_a_build(rng: random.Random) -> Run:
    looks = rng.randint(4, 18)
    names = rng.sample(WORDS, 4)
    seen: list[Outcome] = [
        (
            "ok",
            [
                {"name": name, "status": "completed" if at < 4 * n // looks else "in_progress", "conclusion": None}
                for at, name in enumerate(names)
            ],
        )
        for n in range(looks)
    ]
    return steps(*[[("list_items", {"run": 7})]] * (looks + 1)), gives(
        *seen, ("ok", [{"name": name, "status": "completed"} for name in names])
    )


def bisecting(rng: random.Random) -> Run:
    count = rng.randint(5, 12)
    return steps(*[[("run_tests", {"commit": f"{rng.getrandbits(40):010x}"})] for _ in range(count)]), gives(
        *[("ok", rng.choice(["fail", "pass"])) for _ in range(count)]
    )


def linked_pages(rng: random.Random) -> Run:
    count = rng.randint(4, 20)
    return steps(*[[("fetch_page", {"url": f"https://a.example/list?page={n}"})] for n in range(count)]), gives(
        *[("ok", page(rng)) for _ in range(count)]
    )


def backing_off(rng: random.Random) -> Run:
    fails, asked = rng.randint(1, 3), ("fetch_page", {"url": "https://a.example/"})
    rounds: list[list[Wish]] = [one for n in range(fails) for one in ([asked], [("wait", {"seconds": 2**n})])]
    outcomes: list[Outcome] = [
        one for _ in range(fails) for one in (("error", "503 Service Unavailable"), ("ok", "waited"))
    ]
    return steps(*rounds, [asked]), gives(*outcomes, ("ok", "the page"))


def tailing(rng: random.Random) -> Run:
    looks = rng.randint(4, 18)
    lines = [f"{n:03} {text(rng, 4)}" for n in range(3 * looks)]
    return steps(*[[("read_file", {"path": "job.log"})]] * looks), gives(
        *[("ok", "\n".join(lines[: 3 * n])) for n in range(1, looks + 1)]
    )


def popping(rng: random.Random) -> Run:
    count = rng.randint(4, 18)
    return steps(*[[("get_job", {"queue": "mail"})]] * count), gives(
        *[("ok", {"id": n, "task": text(rng, 3)}) for n in range(count - 1)], ("ok", None)
    )


def guessing(rng: random.Random) -> Run:
    count = rng.randint(5, 12)
    return steps(*[[("probe", {"guess": rng.randint(1, 9999)})] for _ in range(count)]), gives(
        *[("ok", rng.choice(["too low", "too high"])) for _ in range(count - 1)], ("ok", "right")
    )


def ports(rng: random.Random) -> Run:
    count, said = (
        rng.randint(5, 20),
        rng.choice(["closed", {"open": False}, {"port_open": False, "latency": None}, "filtered"]),
    )
    return steps(*[[("probe", {"host": "10.0.0.7", "port": 20 + n})] for n in range(count)]), gives(
        *[("ok", said)] * count
    )


def chunks(rng: random.Random) -> Run:
    count = rng.randint(5, 20)
    rounds: list[list[Wish]] = [[("run_command", {"upload": "big.bin", "chunk": n, "of": count})] for n in range(count)]
    return steps(*rounds), gives(*[("ok", {"received": True})] * count)


def forms(rng: random.Random) -> Run:
    fields = rng.sample(WORDS, 8)
    return steps(
        *[[("press", {"field": field, "text": text(rng, 3)})] for field in fields], [("press", {"button": "send"})]
    ), gives(*[("ok", "typed")] * 8, ("ok", "sent"))


def broken_links(rng: random.Random) -> Run:
    count, said = (
        rng.randint(4, 12),
        rng.choice(["404 Not Found", {"status": 404}, {"status_code": 200, "ok": True}, "200 OK"]),
    )
    return steps(*[[("fetch_page", {"url": f"https://{word}.example/about"})] for word in WORDS[:count]]), gives(
        *[("ok", said)] * count
    )


HELD_OUT_RUNAWAYS: tuple[Callable[[random.Random], Case], ...] = (
    with_metadata, three_with_a_step, asked_as_text, spaced_sql, failing_between_naps, nonce_within, counted_excuses, punctuated, twins, reminders, past_the_last_line,
)  # fmt: skip
HELD_OUT_REPETITIONS: tuple[Callable[[random.Random], Run], ...] = (
    cities, jobs_of_a_build, bisecting, linked_pages, backing_off, tailing, popping, guessing, ports, chunks, forms, broken_links,
)  # fmt: skip
