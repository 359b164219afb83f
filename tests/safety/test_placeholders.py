"""Placeholders: the same ones for the same text ever after, of what nobody wrote for a word, in the time of the text."""

from __future__ import annotations

import random
import re
import time

import msgspec
import pytest

from app.domain import screening
from app.domain.known import Known
from app.domain.screening import Found, Placeholders
from app.safety.entities import find_now
from ops.redaction.corpus import labelled


def put(
    values: Placeholders, text: str, found: list[Found] | None = None, *, keep: str = "", read: bool = False
) -> str:
    """The text as it is hidden, in one go."""
    steps = values.hiding(text, find_now(text) if found is None else found, keep=keep, read=read)
    while True:
        try:
            next(steps)
        except StopIteration as whole:
            return str(whole.value)


def test_the_same_additions_give_the_same_placeholders() -> None:
    first = Placeholders()
    names = [first.name("EMAIL", value) for value in ("a@b.c", "d@e.f", "a@b.c")]
    assert names == ["<EMAIL_1>", "<EMAIL_2>", "<EMAIL_1>"]
    again = Placeholders(first.values)
    assert [again.name("EMAIL", "d@e.f"), again.name("EMAIL", "new@x.y")] == ["<EMAIL_2>", "<EMAIL_3>"]
    assert again.arguments('{"a":"\\u003cEMAIL_1\\u003e","b":"<EMAIL_9>"}', "all") == '{"a":"a@b.c","b":"<EMAIL_9>"}'
    assert again.arguments('{"a":"<EMAIL_1>"}', "none") == '{"a":"<EMAIL_1>"}'
    quoted = Placeholders({"<SECRET_1>": 'a"\n\\'})
    assert quoted.arguments('{"a":"<SECRET_1>"}', "all") == '{"a":"a\\"\\n\\\\"}'


def test_known_values_are_hidden_wherever_they_stand() -> None:
    """As words of their own, the longest first, and of two that overlap nothing is left over."""
    values = Placeholders(
        {"<SECRET_1>": "Tr0ub4dor&3", "<SECRET_2>": "Tr0ub4dor&3 and more", "<PHONE_1>": "030 901820"}
    )
    assert put(values, "Tr0ub4dor&3 and more: Tr0ub4dor&3, Tr0ub4dor&34", []) == "<SECRET_2>: <SECRET_1>, Tr0ub4dor&34"
    assert put(values, "030 901820 22", [Found("PHONE", 4, 13)]) == "<PHONE_1><PHONE>"
    assert put(values, "Tr0ub4dor&3 and more", [Found("SECRET", 0, 11)]) == "<SECRET_2>"
    assert put(values, "22 and 22", []) == "22 and 22", "what is left of one that overlaps is no value"
    assert put(values, "call 030 901820", [], keep="030 901820 is ours") == "call 030 901820"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("My password is Tr0ub4dor&3xyz and I typed Tr0ub4dor&3xyz twice.", "My password is <SECRET_1> and I typed <SECRET_1> twice."),
        ("Call 030 1234 5678, phone: 030 1234 5678.", "Call <PHONE_1>, phone: <PHONE_1>."),
        ("123456782 is mine, BSN 123456782", "<NATIONAL_ID_1> is mine, BSN <NATIONAL_ID_1>"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [False, True])
def test_a_value_is_hidden_in_all_of_its_text_and_the_same_way_ever_after(text: str, hidden: str, read: bool) -> None:
    values = Placeholders()
    once = put(values, text, read=read)
    assert once.replace("_READ", "") == hidden
    assert put(values, text, read=read) == once
    later = Placeholders(values.values)
    put(later, f"so: {text}")  # the user says it, too
    assert put(later, text, read=read) == once, "another process, which knows more"


def test_the_whole_corpus_is_hidden_the_same_way_again() -> None:
    texts = [one.text for one in labelled()][::3]
    values = Placeholders()
    once = [put(values, text) for text in texts]
    assert [put(Placeholders(values.values), text) for text in texts[::7]] == once[::7]


def test_a_page_takes_no_word_out_of_what_others_say() -> None:
    said = "You may not pay for the new car, says the 2024-01-15 iPhone15Pro manual."
    words = [word.strip(",.") for word in said.split()]
    page = " ".join(f"http://x:{word}@y" for word in words if len(word) > 2)
    for read, untouched in ((True, words), (False, words[:-2])):
        values = Placeholders()
        assert all(f":{word}@" not in put(values, page, read=read) for word in words if len(word) > 2)
        told = put(values, said)
        assert [word for word in words if word in told.replace(",", "").split()] == untouched or told == said
        assert put(values, '{"not": true, "pay": "all"}') == '{"not": true, "pay": "all"}'


def test_what_a_page_calls_a_secret_is_one_there() -> None:
    """And has its placeholder again in the next page; a user who says it makes it one of his own."""
    values = Placeholders()
    page = "password: Tr0ub4dor&3xyz (Tr0ub4dor&3xyz)"
    assert put(values, page, read=True) == "password: <SECRET_READ_1> (<SECRET_READ_1>)"
    assert put(values, "what is Tr0ub4dor&3xyz?") == "what is Tr0ub4dor&3xyz?"
    assert put(values, "my password: Tr0ub4dor&3xyz. Tr0ub4dor&3xyz!") == "my password: <SECRET_1>. <SECRET_1>!"
    assert put(values, page, read=True) == "password: <SECRET_READ_1> (<SECRET_READ_1>)"
    assert put(values, "Tr0ub4dor&3xyz", read=True) == "<SECRET_1>"
    assert values.show("<SECRET_1> <SECRET_READ_1>") == "<SECRET_1> <SECRET_READ_1>"
    given = '{"a":"<SECRET_READ_1>"}'
    assert values.arguments(given, "personal") == given
    assert values.arguments(given, "all") == '{"a":"Tr0ub4dor&3xyz"}'


def test_an_escaped_backslash_is_no_beginning_of_a_placeholder() -> None:
    values = Placeholders({"<EMAIL_1>": "nora@x.com"})
    for text, wanted in (
        (r'{"a":"\\u003cEMAIL_1>"}', r'{"a":"\\u003cEMAIL_1>"}'),
        (r'{"a":"\\\u003cEMAIL_1>"}', r'{"a":"\\nora@x.com"}'),
        (r'{"a":"\"<EMAIL_1>\n\u003CEMAIL_1\u003E"}', r'{"a":"\"nora@x.com\nnora@x.com"}'),
    ):
        given = values.arguments(text, "personal")
        assert given == wanted
        msgspec.json.decode(given)


def test_one_that_an_old_journal_gave_out_twice_names_its_last_value() -> None:
    values = Placeholders({"<EMAIL_1>": "a@b.org"})
    values.learn({"<EMAIL_1>": "c@d.org"})
    assert put(values, "c@d.org a@b.org") == "<EMAIL_1> <EMAIL_2>"
    assert values.show("<EMAIL_1> <EMAIL_2>") == "c@d.org a@b.org"


def test_a_session_has_room_for_so_many_values_and_hides_the_rest_for_good() -> None:
    values = Placeholders()
    page = " ".join(f"a{n}@x.com" for n in range(screening.MOST + 10))
    hidden = put(values, page, read=True).split()
    assert hidden[screening.MOST_READ - 1] == f"<EMAIL_{screening.MOST_READ}>"
    assert set(hidden[screening.MOST_READ :]) == {"<EMAIL>"}
    assert put(values, "b@x.com b@x.com") == f"<EMAIL_{screening.MOST_READ + 1}> <EMAIL_{screening.MOST_READ + 1}>"
    assert put(values, page).split()[-10:] == ["<EMAIL>"] * 10
    assert len(values.values) == screening.MOST
    assert values.show("<EMAIL>") == "<EMAIL>"
    long = f"-----BEGIN PRIVATE KEY-----\n{'A1b2' * 8_000}\n-----END PRIVATE KEY-----"
    assert put(Placeholders(), f"x {long} y {long}") == "x <SECRET> y <SECRET>"


def test_values_are_found_as_trying_each_of_them_would() -> None:
    rng = random.Random(7)
    pieces = ["a", "b", "ab", "a.b", ".", "-", "@", " ", "é", "a@b", "_"]
    for _ in range(300):
        values = {
            text for _ in range(rng.randint(1, 40)) if (text := "".join(rng.choices(pieces, k=rng.randint(1, 5))))
        }
        text = "".join(rng.choices(pieces, k=60))
        longest = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
        wanted = [one.span() for one in re.finditer(rf"(?<!\w)(?:{longest})(?!\w)", text)]
        assert list(Known(values).places(text)) == wanted, (values, text)


HOSTILE = {
    "addresses that begin alike": ([f"a{'.a' * n}@x{n}.com" for n in range(32)], "a."),
    "many addresses": ([f"a{n}@x.com" for n in range(screening.MOST)], "a "),
    "many of one word": ([f"a.{n}@x.com" for n in range(screening.MOST)], "a.1 "),
    "one within the other": ([f"a.a@x{'.aa' * n}" for n in range(1, 9)], "a.a@x.aa.aa.aa.aa.aa.aa.aa.a "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_page_makes_the_next_one_slow(name: str) -> None:
    """Whatever is known, a text takes the time of its length (trying each value took minutes), and others have their turn on the way."""
    told, unit = HOSTILE[name]
    values = Placeholders({f"<EMAIL_{n}>": value for n, value in enumerate(told, 1)})
    began = time.thread_time()
    turns = sum(1 for _ in values.hiding(unit * (160_000 // len(unit)), []))
    assert time.thread_time() - began < 3
    assert turns >= 20
