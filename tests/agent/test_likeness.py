"""When two calls are the same step again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.agent.likeness import LONGEST, same_asked, same_found, waits
from app.domain.messages import ToolCall
from app.domain.tools import ToolSpec
from tests.scripted import tool_spec

READ, WRITE = tool_spec("t"), tool_spec("t", effect="write")


def asked(arguments: str, result: str = "same", *, is_error: bool = False) -> Any:
    return same_asked(ToolCall("c", "t", arguments), READ, is_error, result)


def found(arguments: str, result: str = "same", *, spec: ToolSpec = READ, is_error: bool = False) -> Any:
    return same_found(ToolCall("c", "t", arguments), spec, is_error, result)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("{}", "", True),
        ("{}", " { } ", True),
        ('{"a":1,"b":[1,2]}', '{ "b": [1, 2], "a": 1.0 }', True),
        ('{"a":1}', '{"a":1,"b":null}', True),
        ('{"a":" x  y "}', '{"a":"x y"}', True),
        ('{"a":1,"nonce":"q"}', '{"a":1,"nonce":"z"}', True),
        ('{"a":1,"requestId":"q"}', '{"a":1}', True),
        ('{"a":{"retry_count":1}}', '{"a":{"retry_count":2}}', True),
        ("not json", " not json ", True),
        ('{"a":1}', '{"a":2}', False),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"id":"q"}', '{"id":"z"}', False),
        ("not json", "no json", False),
    ],
)
def test_arguments(one: str, other: str, same: bool) -> None:
    assert (asked(one) == asked(other)) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("as of 10:00:01", "as of 10:00:09", True),
        ('{"at":"2026-11-22T10:00:00Z"}', '{"at":"2026-11-22T10:00:09.5+01:00"}', True),
        ('{"now":1,"n":1}', '{"n":1,"now":2}', True),
        ("epoch 1763805600", "epoch 1763805699", True),
        ("took 12 ms", "took 14.5 ms", True),
        ("10 %", "20 %", False),
        ('{"progress":1}', '{"progress":2}', False),
        ("order 1000000001", "order 1000000002", False),
        ("2026-11-22", "2026-11-23", False),
        ("a 0af7651916cd43dd8448eb211c80319c", "a 1af7651916cd43dd8448eb211c80319c", True),
        ("x" * LONGEST + " 10:00:01", "x" * LONGEST + " 10:00:09", False),
    ],
)
def test_results_of_the_same_arguments(one: str, other: str, same: bool) -> None:
    assert (asked("{}", one) == asked("{}", other)) is same
    assert found("{}", one) != found("{}", other)


def test_errors_are_the_same_whatever_their_numbers() -> None:
    one = asked("{}", "HTTPError: 503 after 12 s (0af7651916cd43dd8448eb211c80319c)", is_error=True)
    assert one == asked("{}", "HTTPError: 503 after 99 s (1bf7651916cd43dd8448eb211c80319d)", is_error=True)
    assert one != asked("{}", "KeyError: 1", is_error=True)


@pytest.mark.parametrize(
    ("one", "other", "result", "same"),
    [
        ('{"query":"a"}', '{"query":"b"}', "nothing", True),
        ('{"query":"a","page":1}', '{"query":"b","pageNumber":7}', "[]", True),
        ('{"query":"a"}', '{"query":"b"}', "null", True),
        ('{"query":"a"}', '{"query":"b"}', " 42 ", False),
        ('{"query":"a"}', '{"query":"b"}', "true", False),
        ('{"order_id":1}', '{"order_id":2}', "shipped", False),
        ('{"orderId":1}', '{"orderId":2}', "shipped", False),
        ('{"page_id":1}', '{"page_id":2}', "empty", False),
        ('{"path":"a"}', '{"path":"b"}', "", False),
        ('{"filter":{"a":1}}', '{"filter":{"a":2}}', "[]", False),
    ],
)
def test_a_read_that_finds_the_same(one: str, other: str, result: str, same: bool) -> None:
    assert (found(one, result) == found(other, result)) is same
    assert found(one, result, spec=WRITE) != found(other, result, spec=WRITE)


def test_the_same_error_for_other_words_is_the_same_for_a_write_too() -> None:
    assert found('{"text":"a"}', "E1", spec=WRITE, is_error=True) == found(
        '{"text":"b"}', "E2", spec=WRITE, is_error=True
    )
    assert found('{"id":"a"}', "E1", spec=WRITE, is_error=True) != found('{"id":"b"}', "E1", spec=WRITE, is_error=True)


@pytest.mark.parametrize(
    ("result", "waiting"),
    [
        ('{"status":"pending"}', True),
        ('{"state":"IN PROGRESS"}', True),
        ('{"job":{"phase":"Running"}}', True),
        ('{"done":false}', True),
        ("The report is not ready yet.", True),
        ("still running", True),
        ("running", True),
        ("In Progress", True),
        ("40 % of it", True),
        ('{"progress":0.4}', True),
        ('{"percent_complete":99}', True),
        ('{"progress":1}', False),
        ('{"progress":100}', False),
        ('{"is_ready":false}', True),
        ('{"status":202}', True),
        ('{"status":200}', False),
        ('{"status":"running late"}', True),
        ('{"status":"done"}', False),
        ('{"done":true}', False),
        ('{"status":["pending"]}', False),
        ('[{"id":1,"status":"done"},{"id":2,"status":"pending"}]', True),
        ("Nothing found.", False),
        ("not ready yet " + "x" * 200, False),
    ],
)
def test_what_is_not_there_yet(result: str, waiting: bool) -> None:
    call, polls = ToolCall("c", "t", "{}"), msgspec.structs.replace(READ, polls=True)
    assert waits(call, READ, False, result) is waiting
    assert not waits(call, READ, True, result)
    assert waits(call, polls, False, result)
    assert not waits(call, polls, True, result)


@pytest.mark.parametrize("result", ["false", "null", "0", "", "[]", " No "])
def test_a_plain_no_of_a_tool_that_looks_after_something(result: str) -> None:
    for name, waiting in (
        ("is_ready", True),
        ("checkJob", True),
        ("job-status", True),
        ("search", False),
        ("island", False),
    ):
        assert waits(ToolCall("c", name, "{}"), READ, False, result) is waiting
