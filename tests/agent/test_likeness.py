"""When two calls of tools are the same step again, and when a result says that it is not there yet."""

from __future__ import annotations

import msgspec
import pytest

from app.agent.likeness import PATIENCE, TRIES, Step, read
from app.agent.noise import LONGEST
from app.domain.messages import ToolCall
from app.domain.tools import ToolSpec
from tests.scripted import tool_spec

READ, WRITE = tool_spec("t"), tool_spec("t", effect="write")
LONG = "a page of many words " * 20


def step(arguments: str, result: str = "same", *, spec: ToolSpec = READ, is_error: bool = False) -> Step:
    return read(ToolCall("c", spec.name, arguments), spec, is_error, result)


def alike(one: Step, other: Step) -> bool:
    return one.same == other.same or (one.alike is not None and one.alike == other.alike)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("{}", "", True),
        ("{}", " { } ", True),
        ('{"a":1,"b":[1,2]}', '{ "b": [1, 2], "a": 1.0 }', True),
        ('{"a":1}', '{"a":1,"b":null}', True),
        ('{"a":" x  Y "}', '{"a":"x y"}', True),
        ('{"a":1,"nonce":"q"}', '{"a":1,"nonce":"z"}', True),
        ('{"a":1,"requestId":"q"}', '{"a":1}', True),
        ('{"a":1,"step":1,"reason":"so"}', '{"a":1,"step":2,"reason":"for once"}', True),
        ('{"step":1}', '{"step":2}', False),
        ('{"request_id":1}', '{"request_id":2}', False),
        ('{"request":"a"}', '{"request":"b"}', False),
        ('{"of":1,"rate":3}', '{"of":1,"rate":4}', False),
        ('{"a":1,"r":0.7311938472}', '{"a":1,"r":0.1311938475}', True),
        ('{"a":{"retry_count":1}}', '{"a":{"retry_count":2}}', True),
        ('{"a":"the words (attempt 2)"}', '{"a":"the words (attempt 3)"}', True),
        ('{"a":"x = 1 # one"}', '{"a":"x = 1 # two"}', True),
        ('{"u":"https://a.example/x?ts=1#a"}', '{"u":"https://a.example/x???"}', True),
        ("not json", " not json ", True),
        ('{"u":"https://a.example/x?id=1"}', '{"u":"https://a.example/x?id=2"}', False),
        ('{"a":1}', '{"a":2}', False),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"id":"q"}', '{"id":"z"}', False),
        ("not json", "no json", False),
    ],
)
def test_arguments(one: str, other: str, same: bool) -> None:
    assert (step(one).same == step(other).same) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("as of 10:00:01", "as of 10:00:09", True),
        ('{"at":"2026-11-22T10:00:00Z"}', '{"at":"2026-11-22T10:00:09.5+01:00"}', True),
        ('{"now":1,"n":1}', '{"n":1,"now":2}', True),
        ('{"ticket_id":1,"n":1}', '{"n":1,"ticket_id":9}', True),
        ('{"hits":["a","b"]}', '{"hits":["b","a"]}', True),
        ("sent (id abcdefg7)", "sent (id 8)", True),
        ("took 12 ms", "took 14.5 ms", True),
        ("Nothing there.", '{"hits":[],"hint":"try more"}', True),
        ("x" * LONGEST + " 10:00:01", "x" * LONGEST + " 10:00:09", True),
        ("10 %", "20 %", False),
        ("12288 rows", "16384 rows", False),
        ("12288 was made", "16384 was made", True),
        ('{"price":1}', '{"price":2}', False),
        ('{"rate":1.01}', '{"rate":1.02}', False),
        ('{"a":1,"rate_limit_left":9}', '{"a":1,"rate_limit_left":8}', True),
        ("red", "green", False),
    ],
)
def test_results_of_the_same_arguments(one: str, other: str, same: bool) -> None:
    assert (step("{}", one).same == step("{}", other).same) is same


@pytest.mark.parametrize(
    ("one", "other", "result", "same"),
    [
        ('{"query":"red fox"}', '{"query":"a quick fox"}', "[]", True),
        ('{"query":"red fox"}', '{"query":"a quick fox"}', '["doc"]', True),
        ('{"query":"red fox","page":1}', '{"query":"a fox","page":2}', '{"answer":"unknown"}', True),
        ('{"page":3}', '{"page":4}', '{"items":[]}', True),
        ('{"cursor":"abc"}', '{"cursor":"def"}', "[[1,2,3,4,5,6,7]]", True),
        ('{"query":"red fox"}', '{"query":"a quick fox"}', LONG, True),
        ('{"page":1}', '{"page":2}', LONG, True),
        ('{"page":3}', '{"page":4}', '{"items":[],"total":4}', False),
        ('{"id":1}', '{"id":2}', LONG, False),
        ('{"page":1}', '{"page":2}', '{"items":[],"total":800}', False),
        ('{"page":1}', '{"page":2}', '{"items":[],"meta":{"total":800}}', False),
        ('{"url":"https://a.example/p/1"}', '{"url":"https://a.example/p/2"}', "No content.", True),
        ('{"query":"red fox"}', '{"query":"a quick fox"}', "true", False),
        ('{"query":"red"}', '{"query":"fox"}', "[]", False),
        ('{"text":"a red fox ran"}', '{"text":"two quick foxes ran"}', '{"errors":[]}', False),
        ('{"page":3}', '{"page":4}', '{"ok":true}', False),
        ('{"room":"Blue"}', '{"room":"Red"}', '{"free":true}', False),
        ('{"id":1}', '{"id":2}', "[]", False),
        ('{"url":"https://a.example/1"}', '{"url":"https://a.example/2"}', "No article.", False),
    ],
)
def test_another_question_with_the_same_answer(one: str, other: str, result: str, same: bool) -> None:
    assert alike(step(one, result), step(other, result)) is same
    if "query" not in one:
        assert not alike(step(one, result, spec=WRITE), step(other, result, spec=WRITE))


def test_what_is_only_said_back_is_no_difference() -> None:
    one, other = '{"query":"red fox"}', '{"query":"blue bird"}'
    assert alike(step(one, '["red fox","x"]'), step(other, '["blue bird","x"]'))
    assert not alike(step(one, '["red fox","x"]'), step(other, '["blue bird","y"]'))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"sql":"SELECT a FROM b"}', '{"sql":"SELECT c FROM d"}', True),
        ('{"path":"/tmp/1"}', '{"path":"/tmp/2"}', True),
        ('{"path":"/tmp/a"}', '{"path":"/tmp/b"}', False),
    ],
)
def test_the_same_error(one: str, other: str, same: bool) -> None:
    first = step(one, "HTTPError: 404 after 12 s (abcdef12)", is_error=True)
    assert alike(first, step(other, "HTTPError: 404 after 99 s (fedcba98)", is_error=True)) is same
    assert not alike(first, step(one, "KeyError", is_error=True))
    assert first.patience == 1


@pytest.mark.parametrize(
    ("error", "patience"),
    [
        ("busy, try again", TRIES),
        ("503", TRIES),
        ("HTTP/1.1 502 Bad Gateway", TRIES),
        ("HTTPStatusError: 429", TRIES),
        ("ConnectionError: reset by peer", TRIES),
        ("httpx.ReadTimeout", TRIES),
        ("HTTPError: 404", 1),
        ("no room 503", 1),
        ("timeout must be positive", 1),
        ("connection string is malformed", 1),
    ],
)
def test_errors_that_may_pass(error: str, patience: int) -> None:
    assert step("{}", error, is_error=True).patience == patience


def test_a_count() -> None:
    one, other = step("{}", '{"visits":1}'), step("{}", '{"visits":2}')
    assert one.counted == other.counted
    assert (one.numbers, other.numbers) == ((1.0,), (2.0,))
    assert step("{}", "1 of 10").counted is None
    assert step("{}", "none").counted is None


@pytest.mark.parametrize(
    ("result", "waiting"),
    [
        ('{"status":"pending"}', True),
        ('{"a":1,"b":2,"c":3,"d":4,"status":"new"}', True),
        ('{"a":1,"b":2,"c":3,"d":4,"state":"New York"}', False),
        ("db  Up 2 seconds (health: starting)", True),
        ('{"state":"IN PROGRESS"}', True),
        ('{"job":{"phase":"Running"}}', True),
        ('{"phase":"Warmup"}', True),
        ('{"status":"not_started"}', True),
        ('{"done":false}', True),
        ('{"paid":false}', True),
        ("false", True),
        ('{"result":null}', True),
        ("The report is not ready yet.", True),
        ("still running", True),
        ("In Progress", True),
        ("40 % of it", True),
        ('{"progress":0.4}', True),
        ('{"percent_complete":99}', True),
        ('{"processed":3,"total":10}', True),
        ('{"status":202}', True),
        ('[{"id":1,"status":"done"},{"id":2,"status":"pending"}]', True),
        ('{"progress":1}', False),
        ('{"progress":100}', False),
        ('{"processed":10,"total":10}', False),
        ('{"status":200}', False),
        ('{"status":"done"}', False),
        ('{"status":"shipped"}', False),
        ('{"status":"not found"}', False),
        ('{"name":"a","email":"b","plan":"c","since":1,"status":"gold"}', False),
        ('[{"status":"gold"}]', False),
        ('{"done":true}', False),
        ('{"success":false}', False),
        ('{"found":false,"results":[]}', False),
        ('{"user":null}', False),
        ("null", False),
        ("[]", False),
        ("Nothing found.", False),
        ("not ready yet " + "x" * 200, False),
    ],
)
def test_what_is_not_there_yet(result: str, waiting: bool) -> None:
    assert (step("{}", result).patience == PATIENCE) is waiting
    assert step("{}", result, spec=WRITE).patience == 1
    assert step("{}", result, is_error=True).patience < PATIENCE
    looks, polls = tool_spec("get_it", effect="write"), msgspec.structs.replace(READ, polls=True)
    assert (step("{}", result, spec=looks).patience == PATIENCE) is waiting
    assert step("{}", result, spec=polls).patience == PATIENCE
