"""Who is in which variant: always the same, in the written proportions, and a canary that grows only adds."""

from __future__ import annotations

import itertools
import random

import pytest

from app.domain.agents import Agent
from app.domain.experiments import BUCKETS, Experiment, Variant, bucket

AGENT = Agent(name="a", description="", kind="chat", instructions="")
SUBJECTS = [f"user-{n}" for n in range(20_000)]


def experiment(*percents: float, salt: str = "test", by: str = "user", shadow: float | None = None) -> Experiment:
    variants = tuple(Variant(name=f"v{n}", percent=percent, agent=AGENT) for n, percent in enumerate(percents))
    silent = None if shadow is None else Variant(name="shadow", percent=shadow, agent=AGENT)
    return Experiment(name="e", agent="a", salt=salt, by=by, variants=variants, shadow=silent)  # type: ignore[arg-type]


def dealt(of: Experiment) -> dict[str, str]:
    return {who: variant.name if (variant := of.variant(who, "s")) else "control" for who in SUBJECTS}


def test_buckets_never_change() -> None:
    """These are what releases before this one said: another hash would deal everybody anew."""
    assert [bucket("salt", subject) for subject in ("", "ann", "bob", "ünï", "\ud800")] == [
        5162,
        8897,
        5167,
        4996,
        5018,
    ]


def test_assignment_is_a_function_of_salt_and_subject() -> None:
    first, again = experiment(30, 20), experiment(30, 20)
    assert dealt(first) == dealt(again)
    other = dealt(experiment(30, 20, salt="another"))
    same = sum(other[who] == variant for who, variant in dealt(first).items()) / len(SUBJECTS)
    assert 0.34 < same < 0.42, "another salt deals independently: 0.3² + 0.2² + 0.5² = 0.38"


@pytest.mark.parametrize("percents", [(10.0,), (1.0,), (50.0, 50.0), (33.33, 33.33, 33.34), (0.0, 5.0), (100.0,)])
def test_proportions_are_the_written_ones(percents: tuple[float, ...]) -> None:
    """Within five standard deviations of what so many independent draws would give."""
    found = list(dealt(experiment(*percents)).values())
    shares = {f"v{n}": percent / 100 for n, percent in enumerate(percents)}
    for name, share in (shares | {"control": 1 - sum(shares.values())}).items():
        bound = 5 * (share * (1 - share) / len(SUBJECTS)) ** 0.5
        assert abs(found.count(name) / len(SUBJECTS) - share) <= bound + 1e-9, name


def test_every_bucket_has_one_owner_and_percentages_are_exact() -> None:
    chance = random.Random(7)
    for _ in range(50):
        cuts = sorted(chance.randrange(BUCKETS + 1) for _ in range(3))
        percents = [(b - a) / 100 for a, b in itertools.pairwise([0, *cuts])]
        ends = list(itertools.accumulate(percents))
        assert [round(end * BUCKETS / 100) for end in ends] == cuts


@pytest.mark.parametrize("before", [(0.0,), (1.0,), (5.0,), (20.0, 5.0), (20.0, 30.0)])
def test_a_canary_that_grows_only_adds(before: tuple[float, ...]) -> None:
    """The last variant's growth keeps everybody that it had, and takes nobody from another variant."""
    grown = (*before[:-1], before[-1] + 15.0)
    was, now = dealt(experiment(*before)), dealt(experiment(*grown))
    last = f"v{len(before) - 1}"
    moved = {(was[who], now[who]) for who in SUBJECTS if was[who] != now[who]}
    assert moved == {("control", last)}


def test_any_variant_that_grows_keeps_whom_it_had() -> None:
    was, now = dealt(experiment(10, 20, 30)), dealt(experiment(15, 20, 30))
    assert all(now[who] == "v0" for who, variant in was.items() if variant == "v0")


def test_the_subject_is_the_user_or_else_the_session() -> None:
    by_user, by_session = experiment(50), experiment(50, by="session")
    sessions = [f"s{n}" for n in range(50)]

    def names(of: Experiment, user: str | None) -> list[str | None]:
        return [variant.name if (variant := of.variant(user, session)) else None for session in sessions]

    assert len(set(names(by_user, "ann"))) == 1
    assert len(set(names(by_user, None))) == 2
    assert names(by_session, "ann") == names(by_session, None) == names(by_user, None)


def test_a_shadow_is_drawn_by_run_and_apart_from_the_variants() -> None:
    silent = experiment(50, shadow=10.0)
    chosen = [who for who in SUBJECTS if silent.shadows(who)]
    assert 0.08 < len(chosen) / len(SUBJECTS) < 0.12
    in_variant = sum(silent.variant(who, "s") is not None for who in chosen) / len(chosen)
    assert 0.4 < in_variant < 0.6
    assert not any(experiment(50).shadows(who) for who in SUBJECTS[:100])
    assert not any(experiment(shadow=0.0).shadows(who) for who in SUBJECTS[:100])
    assert all(experiment(shadow=100.0).shadows(who) for who in SUBJECTS[:100])
