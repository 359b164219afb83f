"""The corpus is what it says, and the scores count what they should."""

from __future__ import annotations

from functools import partial

from app.domain.screening import Found, Screening
from app.safety.entities import find_now
from ops.redaction.corpus import Labelled, labelled, luhn
from ops.redaction.measure import alarms, per_delta, score


def test_the_corpus_is_the_same_every_time() -> None:
    assert list(labelled()) == list(labelled())


def test_check_digits_by_the_rules_own_examples() -> None:
    assert luhn("7992739871") == "79927398713"
    assert luhn("424242424242424") == "4242424242424242"


def _give(found: list[Found], _: str) -> list[Found]:
    return found


def test_what_counts() -> None:
    one = Labelled("a 12 b", "CARD", "12", "CARD")
    none = Labelled("a 12 b", None, None, "trap")
    for found, hits, false in (
        ([Found("CARD", 2, 4)], 1, 0), ([Found("CARD", 2, 3)], 0, 1), ([Found("IBAN", 2, 4)], 0, 0), ([], 0, 0),
    ):  # fmt: skip
        kinds, _ = score([one], partial(_give, found))
        assert (kinds["CARD"].found, kinds["CARD"].false) == (hits, false)
    kinds, whats = score([none], lambda _: [Found("CARD", 2, 4)])
    assert (kinds["CARD"].false, kinds["CARD"].precision, whats["trap"].false) == (1, 0.0, 1)


def test_false_alarms_are_counted_by_kind() -> None:
    assert alarms(["nothing", "a@b.org", "c@d.org 8.8.8.8"]) == {"EMAIL": 2, "IP": 1}
    assert find_now("nothing") == []


def test_a_delta_takes_some_time() -> None:
    mean, worst = per_delta(["a "] * 100, Screening(), "x " * 40, rounds=2)
    assert 0 < mean <= worst
