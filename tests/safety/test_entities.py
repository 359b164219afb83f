"""What is found in texts, and what is not."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import bastioncorpus
import pytest

from app.domain.screening import Found
from app.safety.entities import WINDOW, find, find_now, look
from app.safety.spans import Spans
from ops.redaction.corpus import Labelled, labelled, respelled
from ops.redaction.measure import score, through

ROOT = Path(__file__).parents[2]
CORPUS = [*labelled(), *respelled()]


def of(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_now(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mail bob.smith+x@example.co.uk, please", [("EMAIL", "bob.smith+x@example.co.uk")]),
        ("card 4111 1111 1111 1111 exp 12/26", [("CARD", "4111 1111 1111 1111")]),
        ("IBAN DE89 3704 0044 0532 0130 00 THANKS", [("IBAN", "DE89 3704 0044 0532 0130 00")]),
        ("ssn 536-90-4399", [("NATIONAL_ID", "536-90-4399")]),
        ("BSN: 111222333", [("NATIONAL_ID", "111222333")]),
        ("number 111222333", []),
        ("my Aadhaar is 2341 2341 2346", [("NATIONAL_ID", "2341 2341 2346")]),
        ("call (212) 736-5000 now", [("PHONE", "(212) 736-5000")]),
        ("Telefon: 030 901820, oder", [("PHONE", "030 901820")]),
        ("phone 2024-01-15 10:00:00", []),
        ("+49 30 901820", [("PHONE", "+49 30 901820")]),
        ("8.8.8.8 and 10.0.0.1 and v1.2.3.4 and 1.2.3.4.5", [("IP", "8.8.8.8")]),
        ("00:1B:44:11:3A:B7 at 12:30:45", [("MAC", "00:1B:44:11:3A:B7")]),
        ("std::vector<int>::iterator a::b", []),
        ("fe80::1 and 2001:4860:4860::8888", [("IP", "2001:4860:4860::8888")]),
        ('password = "Tr0ub4dor&3"', [("SECRET", "Tr0ub4dor&3")]),
        ("the password is required here", []),
        ("token_count = 1234567890123", []),
        ("postgres://bob:hunter2xyz@db/x", [("SECRET", "hunter2xyz")]),
        ("http://localhost:8080/a@b", []),
        ("@app.route and user@2x.png and git@github.com:a/b", []),
        ("x-sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12", [("SECRET", "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12")]),
        ("sk-learn-something-with-a-long-name", []),
        ("", []),
    ],
)
def test_by_hand(text: str, wanted: list[tuple[str, str]]) -> None:
    assert of(text) == wanted


def test_the_labelled_corpus() -> None:
    kinds, _ = score(CORPUS, find_now)
    assert len(CORPUS) > 1000
    assert {kind: row.missed for kind, row in kinds.items() if min(row.recall, row.precision) < 0.95} == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("联系joe@example.com请看", [("EMAIL", "joe@example.com")]),
        ("joe@mail.firmaß.de.", [("EMAIL", "joe@mail.firmaß.de")]),
        ('{"to":"a\\ud83d\\u00e9 joe\\u0040corp.com"}', [("EMAIL", "joe\\u0040corp.com")]),
        ("\u200b\u200bjoe@cor\u200bp.com\u200b and \u2066bob@corp.com\u2069", [("EMAIL", "joe@cor\u200bp.com"), ("EMAIL", "bob@corp.com")]),
        ("id de89370400440532013001, ab12 3456 7890 1234 and DE89370400440532013000x", []),
        ("a–b, 10–20, ½ of 3…, naïve: 12\u00a0000\u00a0000\u00a0€", []),
    ],
)  # fmt: skip
def test_other_spellings(text: str, wanted: list[tuple[str, str]]) -> None:
    assert of(text) == wanted


async def test_places_are_those_of_the_text_however_long_it_is() -> None:
    text = "".join(f"é\u00a0\u200b{'x' * n} joe{n}@corp.com \\u0040 " for n in range(400))
    assert len(text) > 2 * WINDOW
    found = [text[one.start : one.end] for one in await find(text)]
    assert found == [f"joe{n}@corp.com" for n in range(400)]


def test_a_corpus_that_finds_nothing_is_not_taken_for_a_good_one() -> None:
    kinds, _ = score(CORPUS, lambda _: [])
    assert all(row.recall == 0 for row in kinds.values())
    kinds, _ = score(CORPUS, lambda text: [Found("CARD", 0, len(text))] if text else [])
    assert kinds["CARD"].precision < 0.1


def test_traps_that_only_look_dangerous_are_let_through() -> None:
    traps = [one.text for one in bastioncorpus.load_corpus() if one.label == "benign"]
    assert len(traps) == 63
    found = [one for text in traps for one in of(text)]
    assert [kind for kind, _ in found] == ["SECRET"], "a token that is one, of a test account"
    assert found[0][1].startswith("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIi")


async def test_a_long_text_is_looked_through_in_turns_and_no_entity_is_lost_at_a_seam() -> None:
    card = "4242 4242 4242 4242"
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    for shift in range(25):
        text = "x " * ((WINDOW - shift) // 2) + " " * (shift % 2) + card + " y" * WINDOW
        found = await find(text)
        assert [(one.kind, text[one.start : one.end]) for one in found] == [("CARD", card)], shift
    beside.cancel()
    assert turns >= 50


SEAMS = (
    "ghp_" + "aB3" * 12, "sk-ant-api03-abcDEF123456789012345678901234567890", "glpat-abcDEF1234567890abcd", "password: aB3$xyz99!q",
    '"client_secret_access_key"  =>  "aB3$xyz99!q"', "api_key=aB3dE5gH7jK9mN1pQ3sT", "AKIAABCDEFGHIJ234567", "https://u:hunter2xyz@h.example/",
    f"https://{'u' * 60}:hunter2xyz@h.example/", "Bearer abcDEF123456789012345678901234567890", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1",
    "SK" + "0123456789abcdef" * 2, "jo.smith@corp.example.com", f"{'j' * 60}@corp.example.com", "2001:4860:4860::8888", "8.8.8.8",
    "00:1a:2b:3c:4d:5e", "tel: 030 12345678", "+49 30 901820", "SSN 536-90-4399", "bsn 111222333", "DE89 3704 0044 0532 0130 00",
    "AB123456C", "DE136695976", "12345678Z", "4111 1111 1111 1111", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n-----END PRIVATE KEY-----",
)  # fmt: skip
BEFORE = {"one long word": lambda n: "z" * (n - 1) + " ", "words": lambda n: (" zz XX" * n)[-n + 1 :] + " "}


@pytest.mark.parametrize("filled", BEFORE)
@pytest.mark.parametrize("piece", SEAMS)
def test_nothing_is_lost_at_any_place_of_a_seam(piece: str, filled: str) -> None:
    """Of every kind, wherever the end of a window cuts it or what gives it away."""
    for at in range(WINDOW - len(piece) - 8, WINDOW + 8):
        text = BEFORE[filled](at) + piece + " zz " + "y" * 600
        whole = [(one.kind, one.start, one.end) for one in find_now(text)]
        assert len(whole) == 1
        assert [(one.kind, one.start, one.end) for one in through(text)] == whole, at


def test_a_window_may_end_anywhere() -> None:
    """A text of everything, cut into windows of every size: what is found is what is found in the whole."""
    text = "".join(f"zz {piece} ({piece}), {n} " for n, piece in enumerate(SEAMS))
    whole = find_now(text)
    assert len(whole) >= 2 * len(SEAMS)
    for size in range(1, 400, 7):
        spans = Spans()
        for start in range(0, len(text), size):
            look(text, start, min(start + size, len(text)), spans)
        assert spans.found == whole, size


HOSTILE = [
    "@", "a@", "a.", "1", "1 ", "+1", "sk-", "ghp_", "A", "A1 ", "DE89 3704 ", "-----BEGIN PRIVATE KEY-----AAAA", "-----BEGIN ", "://",
    "a://b:", "password=", "password: aB3$aB3$", ":", "ab:", "1.1.1.1", "1.", "eyJabcdefgh.", "basic ", "-", "_", "(1)", "tel 123456789 ",
    "4111 1111 1111 1112 ", "![", "<A", "](", '<img src="http://a', "token is ", "\n", "İ", "--token ", "--a-", "-u a:", "_a", "a_sk-", "1:AA", "pass=", "> -----BEGIN PRIVATE KEY-----\n> ", "%40", "a%40a.", "1  ", "\ud7ff", "é@é.",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
async def test_hostile_texts_take_no_more_than_their_length(piece: str) -> None:
    """A quadratic rule would take minutes for one of these; the test's time limit is the proof."""
    await find(piece * (150_000 // len(piece)))


def test_the_report_prints_recall_false_alarms_and_speed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.redaction"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for said in ("CARD", "recall", "precision", "false alarms", "MB/s", "ns on average", "what nobody claims to find"):
        assert said in done.stdout, done.stderr


def test_a_sentence_is_a_labelled_one() -> None:
    """The value stands in its sentence, so that a hit is one."""
    assert all(isinstance(one, Labelled) and (one.value is None or one.value in one.text) for one in CORPUS)


def test_what_overlaps_is_taken_once() -> None:
    text = "password=AKIAIOSFODNN7EXAMPLE, https://u:4111111111111111@x.org/a@b.com"
    found: list[Any] = find_now(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert ("SECRET", "AKIAIOSFODNN7EXAMPLE") in of(text)
