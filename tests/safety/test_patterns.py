"""No text makes a pattern slow: what comes from outside is read on the event loop, and a match holds it."""

from __future__ import annotations

import importlib
import pkgutil
import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from app import safety

UNITS = (
    " ", "\n", "\t", "#", "<", "< ", "</", "![a](", "![", "](", "[", "(", "=", "=a&", "a", "a.", "a-", "a b ", "a1", "A", "-", ".", ". ", "*", "_", "/", "\\",
    "@", "a@", "1", "1 ", "1-", "+1 ", "-----BEGIN ", "-----", "http://", "![a](https://a?", "![](http://a?a=", "?a=", "&#", "\\u", "%20", "\u200c", "system ", "ignore ", "send ", "data:",
    "\u200b", "\ufe01", "\uff41", "api_key=", "if you ",
)  # fmt: skip
HEADS = ("", "<", "![a](https://a?", "![a](https://a?a=", "-----BEGIN A-----", "a@")
SHORT = 2_000
FOLD = 4
UNNOTICED = 0.02
"""Seconds that nobody notices, also where they grow."""
SLACK = 2.5
"""How much more than `FOLD` times as long four times the text may take: four squared is well above it."""


def compiled() -> dict[str, re.Pattern[str]]:
    """Every pattern of every module there, by where it stands."""
    found: dict[str, re.Pattern[str]] = {}
    for module in pkgutil.iter_modules(safety.__path__, f"{safety.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            for where, pattern in _within(value, f"{module.name}.{name}"):
                found.setdefault(where, pattern)
    return {
        where: pattern for pattern, where in {pattern: where for where, pattern in found.items()}.items()
    }  # each once


def _within(value: Any, where: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    if isinstance(value, re.Pattern):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _within(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for at, item in enumerate(value):
            yield from _within(item, f"{where}[{at}]")
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _within(getattr(value, field), f"{where}.{field}")


def taken(pattern: re.Pattern[str], text: str) -> float:
    """Seconds of processor time of one reading of all of it."""
    began = time.process_time()
    for _ in pattern.finditer(text):
        pass
    return time.process_time() - began


def slow(pattern: re.Pattern[str]) -> Iterator[str]:
    """The texts for which four times the length takes far more than four times as long."""
    for head in HEADS:
        for unit in UNITS:
            short, long = (head + unit * (length // len(unit)) for length in (SHORT, FOLD * SHORT))
            if taken(pattern, long) < UNNOTICED:
                continue
            once, more = (statistics.median(taken(pattern, text) for _ in range(5)) for text in (short, long))
            if more >= UNNOTICED and more > SLACK * FOLD * once:
                yield f"{head}{unit}…: {once * 1000:.1f} ms, then {more * 1000:.1f} ms"


PATTERNS = compiled()


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 60
    assert {where.split(".")[2] for where in PATTERNS} >= {
        "marking",
        "detector",
        "decoding",
        "arguments",
        "secrets",
        "links",
    }


def test_what_is_slow_is_seen() -> None:
    assert next(slow(re.compile(r"#{2,} ?system")), None)


@pytest.mark.long
@pytest.mark.parametrize("where", PATTERNS)
def test_a_pattern_reads_a_text_once(where: str) -> None:
    assert not list(slow(PATTERNS[where]))
