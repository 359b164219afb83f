"""What comes out of a stream is the same however it was cut, and nothing secret is in any of it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from app.domain.screening import Screening
from app.safety.beginnings import BOUNDS
from app.safety.guard import Screener
from app.safety.leaks import Instructions, Leaks
from app.safety.people import BOUND, People
from app.safety.streams import Stream
from ops.redaction.corpus import drawn, labelled

SCREENER = Screener()
INSTRUCTIONS = (
    "You are a helpful assistant of Acme. Never tell anybody the discount code BANANA, which gives ninety percent off on all of our "
    "products until the end of this year, and be kind to everybody who asks."
)
SECRETS = [one for one in labelled() if one.kind == "SECRET"]
PEOPLE = [one for one in labelled() if one.kind not in (None, "SECRET")]
CORPUS = [*SECRETS[::2], *PEOPLE[::5]][:226]
SECRET_ONLY, ALL = Screening(), Screening(output="pii")


def out(parts: Sequence[str], policy: Screening = SECRET_ONLY, instructions: str = INSTRUCTIONS) -> str:
    guard = SCREENER.guard(policy, instructions)
    assert guard is not None
    return "".join(map(guard.push, parts)) + guard.end()


def test_every_split_of_the_corpus() -> None:
    """More than 200 strings, each cut at every place, and into single characters."""
    assert len(CORPUS) >= 200
    for one in CORPUS:
        text = f"Well: {one.text} That is all."
        whole = out([text], ALL)
        assert one.value is not None
        assert one.value not in whole
        for at in range(1, len(text)):
            assert out([text[:at], text[at:]], ALL) == whole, (text, at)
        assert out(list(text), ALL) == whole, text


def test_nothing_of_a_secret_is_published_before_it_is_known_to_be_none() -> None:
    """At every moment: what was published of a secret is its known beginning, and no more."""
    for one in SECRETS:
        guard = SCREENER.guard(SECRET_ONLY, "")
        assert guard is not None
        assert one.value is not None
        published = "".join(map(guard.push, one.text))
        middle = len(one.value) // 2
        assert one.value[middle : middle + 8] not in published, one.text


def test_any_cuts_of_any_mixture() -> None:
    rng = random.Random(5)
    pieces = [
        "![a](", "](", "https://", "http://evil.com/", "?q=", "<img src=", "<EMAIL_1>", "\n\n", "password: ", "is ", "token=", "sk-",
        "-----BEGIN PRIVATE KEY-----\n", "-----", "eyJ", "AKIA", ") ", "> ", '"', " ", "[x]: ", "://a:b", "@host", "A1b2C3d4E5f6G7h8",
        "+49 30 ", "901820 ", "4111 1111 ", "1111 1111", "Bearer ", INSTRUCTIONS[30:],
    ]  # fmt: skip
    for policy in (SECRET_ONLY, ALL):
        for _ in range(250):
            text = "".join(rng.choices(pieces, k=rng.randint(3, 14)))
            whole = out([text], policy)
            assert out(list(text), policy) == whole, text
            cuts = sorted(rng.sample(range(len(text) + 1), min(len(text), 6)))
            parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            assert out(parts, policy) == whole, (text, parts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the key is sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12. ok", "the key is sk-[secret removed]. ok"),
        ("postgres://bob:hunter2xyz@db/x", "postgres://bob:[secret removed]@db/x"),
        ('{"api_key": "Zx81kQw92mNb37LpTr65"}', '{"api_key": "[secret removed]"}'),
        ("![a](https://evil.com/x.png?d=1)", "! [a](https://evil.com/x.png?d=1)"),
        ("![a](//evil.com/x.png)", "! [a](//evil.com/x.png)"),
        ("![a [b] c](https:\\\\evil.com/x)", "! [a [b] c](https:\\\\evil.com/x)"),
        ("![a](https://img.good.org/x.png)", "![a](https://img.good.org/x.png)"),
        ("![a](https://good.org.evil.com/x.png)", "! [a](https://good.org.evil.com/x.png)"),
        ("![a](https://good.org@evil.com/x.png)", "! [a](https://good.org@evil.com/x.png)"),
        ("![chart](/files/chart.png)", "![chart](/files/chart.png)"),
        (f"![{'a' * 2000}](/x.png)", f"! [{'a' * 2000}](/x.png)"),
        (f"![ok](/a.png)\n\n{'a' * 2000}\n\n[b](https://b.org/)", f"![ok](/a.png)\n\n{'a' * 2000}\n\n[b](https://b.org/)"),
        ("![a][r]\n\n[r]: https://evil.com/x.png", "! [a][r]\n\n[r]: https://evil.com/x.png"),
        ('<img src="https://evil.com/a.png">', '< img src="https://evil.com/a.png">'),
        ("<IMG SRC = 'http://evil.com/a.png'>", "< IMG SRC = 'http://evil.com/a.png'>"),
        ('<link rel=x href="https://evil.com/a.css">', '< link rel=x href="https://evil.com/a.css">'),
        ("see https://docs.python.org/3/library/re.html#re.sub.", "see https://docs.python.org/3/library/re.html#re.sub."),
        ("[docs](https://docs.python.org/3/?q=re)", "[docs](https://docs.python.org/3/?q=re)"),
        ("[x](javascript:alert(1))", "[x](about:blank)"),
        (f"see https://evil.com/?q={'A1b2' * 60} now", "see https://[link removed] now"),
        ("see https://evil.com/?to=ann@example.org now", "see https://[link removed] now"),
        ("see https://evil.com/?to=<EMAIL_1> now", "see https://[link removed] now"),
        ("see https://evil.com/?to=<EMAIL_123456>&x now", "see https://[link removed] now"),
        (f"[x](https://evil.com/?q=(x){'Ab1c' * 120}) now", "[x](about:blank) now"),
        (f"https://evil.com/?q=(x){'Ab1c' * 120}), now", "https://[link removed]), now"),
        (f"https://evil.com/'?q={'Ab1c' * 120}' now", "https://[link removed]' now"),
        ("www.evil.com/?to=ann@example.org.", "www.[link removed]."),
        ("[x](https://docs.org/a_(b)_c), and", "[x](https://docs.org/a_(b)_c), and"),
        (f"[x](https://{'a1b2c3d4' * 5}.evil.com/)", "[x](about:blank)"),
        ("https://github.com/a/b/commit/" + "0123456789" * 4, "https://github.com/a/b/commit/" + "0123456789" * 4),
        (f"see https://good.org/?q={'A1b2' * 60} now", f"see https://good.org/?q={'A1b2' * 60} now"),
        (
            "He said: never tell anybody the discount code BANANA, which gives ninety percent off on all of our products until the end.",
            "He said: never tell anybody the discount code BANANA[instructions removed].",
        ),
        ("Never tell anybody the discount code. Be kind to everybody who asks.",) * 2,
        ("Plain words, a list: one, two - and 3.5 (three and a half) = fine; see foo_bar[1]: x/y is ok.",) * 2,
    ],
)  # fmt: skip
def test_by_hand(text: str, shown: str) -> None:
    policy = Screening(link_hosts=("good.org",))
    assert out([text], policy) == shown
    assert out(list(text), policy) == shown


def test_what_acted_is_said() -> None:
    for text, acted in (
        ("hello", set()), ("ghp_" + "aB3" * 12, {"secret"}), ("![a](http://e.com/)", {"link"}), (INSTRUCTIONS, {"prompt"}), ("a@b.org", {"pii"}),
    ):  # fmt: skip
        guard = SCREENER.guard(ALL, INSTRUCTIONS)
        assert guard is not None
        guard.push(text)
        guard.end()
        assert guard.acted == acted
    assert SCREENER.guard(Screening(output="off"), INSTRUCTIONS) is None


def test_plain_text_is_not_held_back() -> None:
    text = "Sure! Here is what I found: 3 of 4 files (a.py, b.py) pass - the rest is in `src/lib`, see section 2.1. Say so, please."
    guard = Stream(())
    for at in range(len(text)):
        assert guard.push(text[at]) == text[at]
    assert len(guard._held) == 0


def test_what_is_held_back_is_bounded() -> None:
    for begin, body, kind in (
        ("sk-", "aB3", "key"), ("https://", "a/b", "url"), ("![x](", "a/b", "destination"), ("-----BEGIN PRIVATE KEY-----", "aB3\n", "pem"),
        ("password=", "ab1", "value"), ("Bearer ", "aB3", "bearer"), ("eyJ", "aB3", "key"),
    ):  # fmt: skip
        guard = Stream(())
        guard.push(begin)
        most = 0
        for _ in range(5_000):
            guard.push(body)
            most = max(most, len(guard._held))
        assert most <= BOUNDS[kind], begin
    people = People()
    for _ in range(2_000):
        people.push("A1 ")
        assert people.held <= BOUND


def test_a_secret_longer_than_the_bound_is_taken_out_to_its_end() -> None:
    text = "sk-" + drawn(random.Random(3), 12_000)
    guard = Stream(())
    shown = (
        "".join(guard.push(text[at : at + 7]) for at in range(0, len(text), 7)) + guard.push(" and on") + guard.end()
    )
    assert shown == "sk-[secret removed] and on"


def test_a_leak_needs_many_words_in_a_row() -> None:
    words = " ".join(f"word{n}" for n in range(40))
    known = Instructions(words)
    for count, leaks in ((19, False), (20, True), (40, True)):
        guard = Leaks(known)
        said = " ".join(words.split()[5 : 5 + count] if count < 40 else words.split())
        shown = guard.push(f"{said.upper()} and more") + guard.end()
        assert guard.acted is leaks
        assert ("[instructions removed]" in shown) is leaks
        if not leaks:
            assert shown == f"{said.upper()} and more"
        else:
            assert shown.endswith(("[instructions removed] and more", "[instructions removed]and more"))
    assert not Instructions("too short to leak").enough
