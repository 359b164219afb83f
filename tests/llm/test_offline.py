"""The model that answers without a provider."""

from __future__ import annotations

import json
import random
from contextlib import aclosing
from typing import Any

import jsonschema
import msgspec
import pytest

from app.domain.messages import Message, ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelRequest, Target, TextDelta
from app.domain.tools import ToolSpec
from app.llm.instance import instance
from app.llm.offline import NOTICE, OfflineTarget
from app.tools.calculator import calculator
from tests.llm.test_arithmetic import PHRASES

CALCULATOR = ToolSpec(name="calculator", description="Calculate.", schema={"type": "object"})


CLOCK = ToolSpec(name="clock", description="Time.", schema={"type": "object"})


BOTH = (CALCULATOR, CLOCK)


def user(text: str, id: str = "m1") -> Message:
    return Message(id=id, role="user", content=text)


def assistant(calls: tuple[ToolCall, ...], text: str = "", id: str = "a1") -> Message:
    return Message(id=id, role="assistant", content=text, tool_calls=calls)


def result(call: ToolCall, text: str, is_error: bool = False) -> Message:
    return Message(id=f"t-{call.id}", role="tool", content=text, call_id=call.id, name=call.name, is_error=is_error)


async def ask(*messages: Message, tools: tuple[ToolSpec, ...] = BOTH, **options: Any) -> Completed:
    target: Target = OfflineTarget()
    attempt = Attempt(number=1, provider=target.provider, model=target.model, started=0.0)
    request = ModelRequest(route="default", system="", messages=messages, tools=tools, **options)
    chunks = [chunk async for chunk in target.stream(request, attempt)]
    last = chunks[-1]
    assert isinstance(last, Completed)
    deltas = [chunk.text for chunk in chunks[:-1] if isinstance(chunk, TextDelta)]
    assert len(deltas) == len(chunks) - 1
    assert all(deltas)
    assert "".join(deltas) == last.content
    assert attempt.finish == last.stop == ("tool_calls" if last.tool_calls else "stop")
    assert (
        attempt.usage
        == last.usage
        == Usage(input_tokens=0, cached_input_tokens=0, cache_write_tokens=0, output_tokens=0, reasoning_tokens=0)
    )
    assert (target.provider, target.model, last.response_model) == ("offline", "offline-1", "offline-1")
    return last


def calls(answer: Completed) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


async def test_calls_the_calculator_and_answers_with_its_result() -> None:
    question = user("What is 12 * 7?")
    first = await ask(question)
    assert calls(first) == [("calculator", {"expression": "12 * 7"})]
    assert first.content == ""
    call = first.tool_calls[0]
    second = await ask(question, assistant(first.tool_calls), result(call, "84"))
    assert second.tool_calls == ()
    assert second.content == f"12 * 7 = 84\n\n{NOTICE}"


@pytest.mark.parametrize(
    ("operator", "phrase"), [(op, phrase) for op, phrases in PHRASES.items() for phrase in phrases]
)
async def test_random_questions_are_answered_right(operator: str, phrase: str) -> None:
    """The whole turn, with the real calculator."""
    a, b = random.randint(-9999, 9999), random.randint(-9999, 9999)
    question = user(phrase.format(a=a, b=b))
    (call,) = (first := await ask(question)).tool_calls
    told = await calculator(**json.loads(call.arguments))
    assert told == str({"*": a * b, "+": a + b, "-": a - b}[operator])
    answer = await ask(question, assistant(first.tool_calls), result(call, told))
    assert answer.content.startswith(f"{a} {operator} {b} = {told}\n")


async def test_several_questions_are_parallel_calls() -> None:
    question = user("What is 3+4, what is 5*6, and what time is it in Europe/Berlin?")
    first = await ask(question)
    assert calls(first) == [
        ("calculator", {"expression": "3 + 4"}),
        ("calculator", {"expression": "5 * 6"}),
        ("clock", {"timezone": "Europe/Berlin"}),
    ]
    assert len({call.id for call in first.tool_calls}) == 3
    told = '{"time":"2026-11-21T13:00:00+01:00","weekday":"Saturday","timezone":"Europe/Berlin"}'
    results = [result(call, text) for call, text in zip(first.tool_calls, ("7", "30", told), strict=True)]
    second = await ask(question, assistant(first.tool_calls), *results)
    for part in ("3 + 4 = 7", "5 * 6 = 30", "It is Saturday, 2026-11-21T13:00:00+01:00 (Europe/Berlin).", NOTICE):
        assert part in second.content


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("What time is it?", {}),
        ("what's the date today", {}),
        ("Which day is it?", {}),
        ("Tell me the time", {}),
        ("current time in UTC please", {"timezone": "UTC"}),
        ("What is the time in Tokyo?", {"timezone": "Asia/Tokyo"}),
        ("What time is it in America/New_York?", {"timezone": "America/New_York"}),
    ],
)
async def test_time_questions(text: str, arguments: dict[str, str]) -> None:
    assert calls(await ask(user(text))) == [("clock", arguments)]


@pytest.mark.parametrize("text", ["How many times did he win?", "Tell me a story of long ago", "It was time to go."])
async def test_not_every_time_is_a_question(text: str) -> None:
    assert calls(await ask(user(text))) == []


async def test_deterministic_with_ids_of_its_own_for_each_message() -> None:
    first, again, other = await ask(user("1+1")), await ask(user("1+1")), await ask(user("1+1", id="m2"))
    assert first == again
    assert first.tool_calls[0].id != other.tool_calls[0].id


async def test_tool_errors_are_told() -> None:
    question = user("What is 1/0?")
    first = await ask(question)
    failed = result(first.tool_calls[0], "CalculationError: division by zero", is_error=True)
    second = await ask(question, assistant(first.tool_calls), failed)
    assert "1 / 0: the tool calculator failed: CalculationError: division by zero" in second.content


async def test_results_that_do_not_look_as_expected() -> None:
    strange = (ToolCall("c1", "clock", "{}"), ToolCall("c2", "calculator", "nonsense"), ToolCall("c3", "weather", "{}"))
    results = [result(call, f"result of {call.id}\x00") for call in strange]
    answer = await ask(user("1+1"), assistant(strange), *results)
    for call in strange:
        assert f"result of {call.id}\ufffd" in answer.content


async def test_only_results_of_this_turn_count() -> None:
    first = await ask(user("1+1"))
    history = (user("1+1"), assistant(first.tool_calls), result(first.tool_calls[0], "2"), assistant((), "1 + 1 = 2"))
    second = await ask(*history, user("2+2", id="m2"))
    assert calls(second) == [("calculator", {"expression": "2 + 2"})]
    third = await ask(*history, user("hello", id="m3"))
    assert "1 + 1" not in third.content


async def test_says_honestly_what_it_is() -> None:
    answer = await ask(user("Write a poem about " + "the sea " * 100))
    assert answer.tool_calls == ()
    for part in (
        NOTICE,
        "cannot think",
        "You asked: Write a poem about the sea",
        "…",
        "[models.default]",
        "OPENAI_API_KEY",
    ):
        assert part in answer.content
    assert len(answer.content) < 800


async def test_without_tools_and_with_tool_choice_none() -> None:
    without = await ask(user("What is 2+2?"), tools=())
    assert "only with calculator, but this agent may not use it" in without.content
    assert calls(await ask(user("2+2? And what time is it?"), tools=(CLOCK,))) == [("clock", {})]
    forbidden = await ask(user("What is 2+2?"), tool_choice="none")
    assert forbidden.tool_calls == ()
    assert "tools must not be called now" in forbidden.content
    call = ToolCall("c", "calculator", '{"expression":"2 + 2"}')
    known = await ask(user("2+2"), assistant((call,)), result(call, "4"), tool_choice="none")
    assert "2 + 2 = 4" in known.content


async def test_no_user_message_at_all() -> None:
    assert "(nothing)" in (await ask()).content


async def test_closing_early_is_fine() -> None:
    attempt = Attempt(number=1, provider="offline", model="offline-1", started=0.0)
    request = ModelRequest(route="default", system="", messages=(user("hello"),))
    async with aclosing(OfflineTarget().stream(request, attempt)) as chunks:
        assert isinstance(await anext(chunks), TextDelta)
    assert attempt.usage is not None


async def test_structured_answers() -> None:
    schema = {
        "type": "object",
        "properties": {
            "confidence": {"type": "number", "minimum": 0.5},
            "answer": {"type": "string"},
            "value": {"type": "integer"},
        },
        "required": ["answer", "value"],
        "additionalProperties": False,
    }
    question = user("12 times 7")
    first = await ask(question, output_schema=schema)
    assert calls(first) == [("calculator", {"expression": "12 * 7"})]
    second = await ask(question, assistant(first.tool_calls), result(first.tool_calls[0], "84"), output_schema=schema)
    assert json.loads(second.content) == {"answer": "12 * 7 = 84", "value": 84}
    helpless = json.loads((await ask(user("hello"), output_schema=schema)).content)
    assert NOTICE in helpless["answer"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string"},
        {"type": "string", "minLength": 500},
        {"type": "string", "maxLength": 3},
        {"type": "integer", "minimum": 5, "multipleOf": 4},
        {"type": "integer", "exclusiveMinimum": 5, "maximum": 6},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "maximum": -2.5},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["string", "null"]},
        {"enum": ["red", "blue"]},
        {"const": {"a": 1}},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2},
        {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"type": "null"}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {}}, "required": ["b"]},
            ]
        },
        {
            "$ref": "#/$defs/x",
            "$defs": {
                "x": {"type": "object", "properties": {"a": {"$ref": "#/$defs/y"}}, "required": ["a"]},
                "y": {"enum": [3]},
            },
        },
        {"type": "object", "properties": {"next": {"$ref": "#"}, "name": {"type": "string"}}, "required": ["name"]},
        {"type": "object", "required": ["free"]},
        {
            "type": "object",
            "properties": {
                f: {"type": "string", "format": f}
                for f in ("date", "date-time", "email", "ipv4", "ipv6", "uri", "uuid")
            },
            "required": ["date", "date-time", "email", "ipv4", "ipv6", "uri", "uuid"],
        },
    ],
)
def test_instances_satisfy_their_schema(schema: dict[str, Any]) -> None:
    value = instance(schema, "the answer", 84)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    validator.validate(msgspec.json.decode(msgspec.json.encode(value)))


def test_the_text_goes_where_it_is_allowed() -> None:
    formatted = {"type": "string", "format": "date"}
    coded = {"type": "string", "enum": ["x"]}
    schema = {
        "type": "object",
        "properties": {"d": formatted, "c": coded, "o": {"type": "integer"}, "t": {"type": "string"}},
        "required": ["d", "c"],
    }
    assert instance(schema, "answer") == {"d": "1970-01-01", "c": "x", "t": "answer"}
    assert instance({"type": "array", "minItems": 2, "items": {"type": "string"}}, "answer") == ["answer", ""]


def test_a_schema_that_never_ends_ends() -> None:
    for schema in ({"$ref": "#"}, {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}):
        msgspec.json.encode(instance(schema, "x"))
