"""Who is asked next and after which pause, and who goes first among alternatives."""

from __future__ import annotations

from collections import Counter

import pytest

from app.domain.errors import FailureKind
from app.llm.course import Alternative, Course, order
from tests.llm.targets import FakeTarget, fault

A, B, C = FakeTarget("a"), FakeTarget("b"), FakeTarget("c")


def course(*targets: FakeTarget, part: float = 1.0) -> Course:
    return Course(targets=targets, windows={}, random=lambda: part)


def test_the_backoff_doubles_up_to_its_limit_and_is_a_random_part_of_it() -> None:
    for part in (0.0, 0.5, 1.0):
        asked = course(A, part=part)
        assert [asked.failed(fault("overloaded"), 60.0) for _ in range(2)] == [0.5 * part, 1.0 * part]
        assert asked.target is A
        asked.failed(fault("overloaded"), 60.0)
        assert asked.target is None


@pytest.mark.parametrize(
    ("kind", "hint", "left", "alone", "with_another"),
    [
        ("overloaded", 0.2, 60.0, 0.5, 0.5),  # the least, not the most
        ("overloaded", 7.0, 60.0, 7.0, 7.0),
        ("overloaded", 30.0, 60.0, 30.0, 30.0),
        ("overloaded", 30.1, 60.0, 30.1, None),
        ("overloaded", 60.0, 60.0, None, None),
        ("overloaded", 7.0, 6.9, None, None),
        ("overloaded", None, 0.4, None, None),
        ("rate_limited", 1.0, 60.0, 1.0, 1.0),
        ("rate_limited", 1.1, 60.0, 1.1, None),
        ("rate_limited", None, 60.0, 0.5, 0.5),
        ("first_token_timeout", None, 60.0, 0.5, None),
    ],
)
def test_what_the_provider_asks_for(
    kind: FailureKind, hint: float | None, left: float, alone: float | None, with_another: float | None
) -> None:
    """The pause before the same target is asked again; None: it is not."""
    for targets, pause in (((A,), alone), ((A, B), with_another)):
        asked = course(*targets)
        found = asked.failed(fault(kind, hint), left)
        assert (found if asked.target is A else None) == pause
        assert pause is not None or asked.target is (B if len(targets) > 1 else None)


@pytest.mark.parametrize("kind", ["overloaded", "first_token_timeout", "auth", "bad_request", "quota"])
def test_the_provider_s_advice_goes_before_the_table(kind: FailureKind) -> None:
    asked = course(A, B)
    asked.failed(fault(kind, advice=True), 60.0)
    assert asked.target is (B if kind == "quota" else A)
    asked = course(A, B)
    gave = asked.failed(fault(kind, advice=False), 60.0)
    assert gave is None if kind == "bad_request" else asked.target is B


def test_a_retried_refusal_is_final_in_the_end() -> None:
    asked = course(A, B)
    assert [asked.failed(fault("bad_request", advice=True), 60.0) for _ in range(3)] == [0.5, 1.0, None]


def test_nobody_is_asked_when_the_time_is_over() -> None:
    asked = course(A, B, C)
    asked.failed(fault("total_timeout"), 0.0)
    assert asked.target is None


def test_each_target_has_tries_of_its_own() -> None:
    asked = course(A, B)
    seen = []
    while asked.target is not None:
        seen.append(asked.target.provider)
        asked.failed(fault("overloaded"), 60.0)
    assert seen == ["a"] * 3 + ["b"] * 3


class TestWeights:
    def test_a_session_keeps_its_order(self) -> None:
        place = (Alternative(A, 9.0), Alternative(B, 1.0))
        for n in range(20):
            assert order([place, C], f"session-{n}") == order([place[::-1], C], f"session-{n}")

    def test_all_alternatives_come_before_the_next_place(self) -> None:
        assert {t.provider for t in order([(Alternative(A, 1), Alternative(B, 1)), C], "s")[:2]} == {"a", "b"}
        assert order([C, (Alternative(A, 1), Alternative(B, 1))], "s")[0] is C

    def test_sessions_are_shared_out_by_weight(self) -> None:
        place = (Alternative(A, 70.0), Alternative(B, 20.0), Alternative(C, 10.0))
        firsts = Counter(order([place], f"session-{n}")[0].provider for n in range(5000))
        assert [round(firsts[name] / 5000, 1) for name in "abc"] == [0.7, 0.2, 0.1]

    def test_a_changed_weight_moves_only_those_that_must(self) -> None:
        def first(weight: float, n: int) -> str:
            return order([(Alternative(A, 1.0), Alternative(B, weight))], f"session-{n}")[0].provider

        moved = Counter((first(1.0, n), first(2.0, n)) for n in range(2000))
        assert moved["b", "a"] == 0
        assert moved["a", "b"] > 0
