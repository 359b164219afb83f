"""The small rules: the transition table, cleaned text, versions, errors and ids."""

from __future__ import annotations

import time
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.agents import Agent, versioned
from app.domain.errors import ConfigError, ConfigProblem, ProviderError, ProvidersUnavailable
from app.domain.runs import TERMINAL, TRANSITIONS, RunStatus
from app.domain.text import clean
from app.domain.tools import ToolResult, ToolSpec
from app.runs.ids import new_id


def test_the_transition_table_is_whole() -> None:
    statuses = set(get_args(RunStatus))
    assert TRANSITIONS.keys() == statuses
    assert set().union(*TRANSITIONS.values()) <= statuses
    assert {"succeeded", "failed", "cancelled"} == TERMINAL
    assert all(status not in after for status, after in TRANSITIONS.items()), "a transition changes something"
    assert all({"failed", "cancelled"} <= after for status, after in TRANSITIONS.items() if status not in TERMINAL)
    assert "succeeded" not in TRANSITIONS["queued"] | TRANSITIONS["waiting"], "only a run that runs can succeed"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("é\udfff\x00", "é\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_text_that_goes_nowhere_is_replaced(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.text(st.characters(codec=None, categories=None)))
def test_cleaned_text_goes_everywhere(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode().decode() == cleaned
    assert "\x00" not in cleaned
    assert clean(cleaned) is cleaned


def agent(**more: Any) -> Agent:
    return Agent(**({"name": "a", "description": "", "kind": "react", "instructions": "Be brief."} | more))


def spec(schema: dict[str, Any], **more: Any) -> ToolSpec:
    return ToolSpec(**({"name": "t", "description": "", "schema": schema} | more))


def test_a_version_does_not_hang_on_the_order_of_keys() -> None:
    one = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
    other = {"properties": {"b": {}, "a": {"type": "string"}}, "type": "object"}
    versions = {versioned(agent(tools=(spec(s),), output_schema=s)).version for s in (one, other)}
    (version,) = versions
    assert len(version) == 12
    assert int(version, 16)


def test_a_version_of_a_version_is_the_same() -> None:
    once = versioned(agent())
    assert versioned(once) == once
    assert versioned(msgspec.json.decode(msgspec.json.encode(once), type=Agent)) == once


@pytest.mark.parametrize(
    "changed",
    [
        {"instructions": "Be long."},
        {"temperature": 0.0},
        {"tools": (spec({}),)},
        {"tools": (spec({"type": "object"}),)},
        {"auto_approve": "high"},
        {"output_schema": {}},
        {"name": "b"},
    ],
    ids=str,
)
def test_every_change_is_a_version_of_its_own(changed: dict[str, Any]) -> None:
    assert versioned(agent(**changed)).version != versioned(agent()).version


@pytest.mark.parametrize(
    ("result", "text"), [(b'"a\\nb"', "a\nb"), (b'{"a": 1}', '{"a": 1}'), (b"null", "null"), (b"1", "1")]
)
def test_a_model_reads_strings_as_they_are(result: bytes, text: str) -> None:
    assert ToolResult(call_id="c", name="t", status="ok", result=msgspec.Raw(result)).text == text


def test_errors_name_what_was_tried_and_stay_short() -> None:
    first = ProviderError("rate_limited", "slow down", provider="a", model="m", status=429, retry_after=3.0)
    last = ProviderError("bad_request", "x\x00" * 1000, provider="b", model="n", status=400)
    assert len(str(last)) == 500
    assert "\x00" not in str(last)
    whole = ProvidersUnavailable("default", [first, last])
    assert str(whole).startswith("route default: a/m: slow down; b/n: x")
    assert (whole.kind, whole.status, whole.attempts, whole.refuses_request) == (
        "bad_request",
        400,
        (first, last),
        True,
    )
    assert str(ConfigError([ConfigProblem("f:1", "k", "w"), ConfigProblem("X", "y", "z")])) == "f:1: k: w\nX: y: z"


def test_ids_sort_by_their_millisecond_and_are_never_the_same() -> None:
    first = new_id("run")
    begun = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == begun:
        pass
    ids = [new_id("run") for _ in range(1000)]
    assert len({first, *ids}) == 1001
    assert all(name > first for name in ids)
    assert all(name.startswith("run_") and len(name) == len(first) for name in ids)
