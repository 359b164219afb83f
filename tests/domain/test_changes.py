"""What is different between two JSON values."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgspec
import pytest

from app.domain.changes import Change, changes


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, []),
        ({"a": 1}, {"a": 2}, [Change(path="/a", old=1, new=2)]),
        ({"a": 1}, {"a": True}, [Change(path="/a", old=1, new=True)]),
        ({"a": 0}, {"a": None}, [Change(path="/a", old=0, new=None)]),
        ({"a": 1}, {}, [Change(path="/a", old=1)]),
        ({}, {"a": None}, [Change(path="/a", new=None)]),
        ({"a": [1, 2, 3]}, {"a": [1, 4]}, [Change(path="/a/1", old=2, new=4), Change(path="/a/2", old=3)]),
        ({"a": {"b": 1}}, {"a": [1]}, [Change(path="/a", old={"b": 1}, new=[1])]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [Change(path="/a~1b/~0", old=1, new=2)]),
        ("text", {"a": 1}, [Change(path="", old="text", new={"a": 1})]),
        (None, {"a": 1}, [Change(path="", old=None, new={"a": 1})]),
    ],
)
def test_what_is_different(old: Any, new: Any, found: list[Change]) -> None:
    assert list(changes(old, new)) == found
    assert msgspec.json.decode(msgspec.json.encode(changes(old, new)), type=tuple[Change, ...]) == changes(old, new)


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return {rng.choice("abc/~"): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [rng.randrange(3), rng.choice("xyz"), rng.random() < 0.5, None][kind]


def patched(old: Any, found: tuple[Change, ...]) -> Any:
    """The old value with those changes: removals last, from the end of their lists."""
    whole = {"": copy.deepcopy(old)}
    for change in sorted(found, key=lambda one: (one.new is msgspec.UNSET, one.path.count("/")), reverse=False):
        keys = [key.replace("~1", "/").replace("~0", "~") for key in change.path.split("/")]
        at: Any = whole
        for key in keys[:-1]:
            at = at[int(key)] if isinstance(at, list) else at[key]
        last = keys[-1]
        if isinstance(at, list):
            if change.new is msgspec.UNSET:
                at.pop()
            elif int(last) == len(at):
                at.append(change.new)
            else:
                at[int(last)] = change.new
        elif change.new is msgspec.UNSET:
            del at[last]
        else:
            at[last] = change.new
    return whole[""]


def test_the_changes_lead_from_the_one_to_the_other() -> None:
    for seed in range(2_000):
        rng = random.Random(seed)
        old, new = value(rng), value(rng)
        assert msgspec.json.encode(patched(old, changes(old, new)), order="sorted") == msgspec.json.encode(
            new, order="sorted"
        )
