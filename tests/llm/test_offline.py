from __future__ import annotations

import json
import random
from contextlib import aclosing
from fractions import Fraction
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.messages import Message, ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelRequest, Target, TextDelta
from app.domain.tools import ToolSpec
from app.llm.arithmetic import MAX_EXPRESSIONS, expressions
from app.llm.instance import instance
from app.llm.offline import NOTICE, OfflineTarget
from app.tools.calculator import CalculationError, calculator, evaluate

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 12 * 7?", ["12 * 7"]),
        ("12 times 7", ["12 * 7"]),
        ("product of 12 and 7", ["12 * 7"]),
        ("What's the product of the numbers 3 and 4?", ["3 * 4"]),
        ("multiply 3 by 4", ["3 * 4"]),
        ("Multiply 3 and 4 please", ["3 * 4"]),
        ("3 multiplied by -2", ["3 * -2"]),
        ("sum of 3, 4 and 5", ["3 + 4 + 5"]),
        ("the sum of 3, 4, and 5", ["3 + 4 + 5"]),
        ("add 3 and 4", ["3 + 4"]),
        ("add 3 to 4", ["3 + 4"]),
        ("Please add together 3 and 4", ["3 + 4"]),
        ("5 added to 6", ["5 + 6"]),
        ("difference between 9 and 4", ["9 - 4"]),
        ("difference of 4 and 9", ["4 - 9"]),
        ("subtract 3 from 10", ["10 - 3"]),
        ("3 subtracted from 10", ["10 - 3"]),
        ("take 3 away from 10", ["10 - 3"]),
        ("10 minus 3", ["10 - 3"]),
        ("10-3", ["10 - 3"]),
        ("10 − 3", ["10 - 3"]),
        ("3 plus -4", ["3 + -4"]),
        ("3 - -4", ["3 - -4"]),
        ("negative 3 times 4", ["-3 * 4"]),
        ("what's 1,234 + 5.5", ["1234 + 5.5"]),
        ("product of 1,234 and 5,678", ["1234 * 5678"]),
        ("How much is 6x7", ["6 * 7"]),
        ("6 × 7", ["6 * 7"]),
        ("divide 10 by 4", ["10 / 4"]),
        ("10 divided by 4", ["10 / 4"]),
        ("10 ÷ 4", ["10 / 4"]),
        ("17 mod 5", ["17 % 5"]),
        ("2 to the power of 10", ["2 ** 10"]),
        ("3 squared plus 4 squared", ["3 ** 2 + 4 ** 2"]),
        ("15% of 200", ["15 / 100 * 200"]),
        ("half of 10", ["10 / 2"]),
        ("(2+3)*4", ["(2 + 3) * 4"]),
        ("multiply 3 by 4 and add 5", ["(3 * 4) + 5"]),
        ("add 3 and 4, then multiply the result by 2", ["(3 + 4) * 2"]),
        ("multiply 3 by 4 and add 5 to 6", ["3 * 4", "5 + 6"]),
        ("the sum of 3 and 4 multiplied by 2", ["(3 + 4) * 2"]),
        ("What is twelve times seven?", ["12 * 7"]),
        ("one hundred and five plus twenty-one", ["105 + 21"]),
        ("the sum of two and three", ["2 + 3"]),
        ("two thousand three hundred times 2", ["2300 * 2"]),
        ("12*7=?", ["12 * 7"]),
        ("$5 + $3", ["5 + 3"]),
        ("What is 3+4 and 5*6?", ["3 + 4", "5 * 6"]),
        ("Tell me 8 * 9, then tell me 4-9.", ["8 * 9", "4 - 9"]),
        ("3 + 4. And 3+4 again", ["3 + 4"]),
        ("hello", []),
        ("the date 2026-11-21 at 10:30, version 3.11.7", []),
        ("1. first\n2. second\n- 3\n- 4", []),
        ("3 + 12kg", []),
        ("3 +", []),
        ("", []),
    ],
)
def test_arithmetic_in_many_words(text: str, expected: list[str]) -> None:
    assert expressions(text) == expected


number = st.one_of(st.integers(-(10**6), 10**6), st.integers(-(10**40), 10**40)).map(str) | st.decimals(
    -(10**6), 10**6, places=3, allow_nan=False, allow_infinity=False
).map(lambda value: f"{value:f}")
PHRASES = {
    "*": [
        "What is {a} * {b}?",
        "{a} times {b}",
        "the product of {a} and {b}",
        "multiply {a} by {b}",
        "{a}×{b}",
        "Calculate {a} x {b}.",
    ],
    "+": [
        "What is {a} + {b}?",
        "{a} plus {b}",
        "sum of {a} and {b}",
        "add {a} and {b}",
        "please add {a} + {b}",
        "add {a} to {b}",
        "What's {a}+{b}",
    ],
    "-": [
        "{a} - {b}",
        "{a} minus {b}",
        "difference between {a} and {b}",
        "subtract {b} from {a}",
        "How much is {a}-{b}?",
    ],
}


@given(number, number, st.sampled_from([(op, phrase) for op, phrases in PHRASES.items() for phrase in phrases]))
def test_random_numbers_in_any_phrase(a: str, b: str, case: tuple[str, str]) -> None:
    operator, phrase = case
    assert expressions(phrase.format(a=a, b=b)) == [f"{a} {operator} {b}"]


ASKED: dict[str, list[str]] = {
    "*": [
        "if {a} is multiplied by {b}", "{a} is multiplied by {b}", "{a} multiplied by {b}", "{a} and {b} multiplied",
        "{a} and {b} multiplied together", "what do you get when you multiply {a} by {b}?", "the result of {a} times {b}",
        "{a} times {b} equals?", "compute {a}*{b}", "calculate {a} * {b}", "multiply {a} and {b}", "What is {a}×{b}?", "{a}x{b}",
        "product of {a} and {b}",
    ],
    "+": [
        "how much do {a} and {b} add up to?", "{a} and {b} added together", "increase {a} by {b}", "{a} increased by {b}",
        "what do you get when you add {a} to {b}", "{b} more than {a}", "What is {b} more than {a}?", "the total of {a} and {b}",
        "sum: {a} + {b}", "{a} plus {b}", "sum of {a} and {b}", "{a} + {b} = ?", "what do {a} and {b} make?",
    ],
    "-": [
        "{a} less {b}", "{a} reduced by {b}", "{a} is decreased by {b}", "decrease {a} by {b}", "how much more is {a} than {b}?",
        "how much larger is {a} than {b}", "how much bigger is {a} than {b}", "how much smaller is {b} than {a}",
        "take {b} away from {a}", "{a} take away {b}", "what do you get when you subtract {b} from {a}", "{b} less than {a}",
        "{a} - {b} = ?", "{a} − {b}", "difference between {a} and {b}", "difference of {a} and {b}", "{a} minus {b}",
    ],
}  # fmt: skip
KINDS: dict[str, st.SearchStrategy[tuple[str, Fraction]]] = {
    "int": st.integers(0, 10**6).map(lambda n: (str(n), Fraction(n))),
    "negative": st.integers(1, 10**6).map(lambda n: (f"-{n}", Fraction(-n))),
    "unicode": st.integers(1, 10**6).map(lambda n: (f"−{n}", Fraction(-n))),
    "words": st.integers(1, 10**6).map(lambda n: (f"negative {n}", Fraction(-n))),
    "huge": st.integers(10**24, 10**25 - 1).map(lambda n: (str(n), Fraction(n))),
    "decimal": st.integers(0, 10**9).map(lambda n: (f"{n // 1000}.{n % 1000:03}", Fraction(n, 1000))),
    "commas": st.integers(1000, 10**15).map(lambda n: (f"{n:,}", Fraction(n))),
    "spaces": st.integers(1000, 10**9).map(lambda n: (f"{n:,}".replace(",", " "), Fraction(n))),
    "underscores": st.integers(1000, 10**9).map(lambda n: (f"{n:_}", Fraction(n))),
    "scientific": st.integers(1, 999).map(lambda n: (f"{n}e3", Fraction(n * 1000))),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_phrase_with_every_kind_of_number(kind: str, data: st.DataObject) -> None:
    (a, left), (b, right) = data.draw(KINDS[kind]), data.draw(KINDS[kind])
    for operator, phrases in ASKED.items():
        exact = {"*": left * right, "+": left + right, "-": left - right}[operator]
        for phrase in phrases:
            if phrase == "{a}x{b}" and (a == "0" or kind in ("negative", "unicode", "words", "spaces")):
                continue  # 0x1 is hexadecimal, and 5x-3 algebra
            text = phrase.format(a=a, b=b)
            found = expressions(text)
            assert len(found) == 1, text
            assert evaluate(found[0]) == exact, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("product of 3, 4 and 5", 60), ("minus 5 plus 3", -2), ("negative 5 times 3", -15), ("the square of -3", 9),
        ("decrease 200 by 10%", 180), ("200 increased by 10 percent", 220), ("2.5 million plus 1", 2_500_001), ("sum of 1,2,3", 6),
        ("remainder when 17 is divided by 5", 2), ("10 - 4 decreased by 5", 1), ("two point five plus 1", Fraction(7, 2)),
    ],
)  # fmt: skip
def test_values(text: str, value: int | Fraction) -> None:
    (found,) = expressions(text)
    assert evaluate(found) == value


@pytest.mark.parametrize(
    "text",
    [
        "I was born in 1999", "call 555 1234", "call 555-1234", "version 1.2.3", "2026-11-21", "10/11/2026", "21-11-2026",
        "+49 30 1234", "3-5 days", "pages 3-5", "3/4 cup of flour", "open 24/7", "555-123-4567", "555 123-4567", "COVID-19",
        "is 5 more than 3?", "if 5 less than 3",
        # a part of what is asked would have another value
        "3,5 + 1,5", "0,123 + 1", "2x + 3 + 5", "2x - 3 + 5", "2 x + 3", "5x-3", "5 + 3 - 12kg", "a + 2 + 3", "y - 2 + 3", "y-2+3", "sqrt(16) + 3",
        "square root of 16 plus 3", "0x10 + 1", "20% - 5", "50 plus 10 percent", "5k + 3", "1 2 + 3", "3 + 4 5 * 6",
        "10 minus 3 and add 4", "one and a half plus 2", "1__0 + 1", "1e + 5", "1.2.3 + 4", "the sum of 3 + 4 and 5",
    ],
)  # fmt: skip
def test_sentences_without_arithmetic_that_can_be_read(text: str) -> None:
    assert expressions(text) == []


@given(st.integers(0, 10**15))
def test_thousands_separators(value: int) -> None:
    assert expressions(f"{value:,} plus {value:,}") == [f"{value} + {value}"]


@given(st.text(alphabet="0123456789 .,+-*/()x×andofsumtims\n", max_size=200))
def test_any_text_is_read(text: str) -> None:
    for expression in expressions(text):
        try:
            evaluate(expression)
        except CalculationError as error:
            problem = str(error)
            hopeless = any(word in problem for word in ("digits", "division by zero", "whole exponents", "deep"))
            if not hopeless:
                raise


def test_bounds() -> None:
    assert len(expressions(" ; ".join(f"{n} + 1" for n in range(100)))) == MAX_EXPRESSIONS
    assert expressions("1+" * 600 + "1") == []
    for hostile in ("(" * 10**6, "-" * 10**6, "1" * 10**6, "1 and " * 10**5, "add (" * 10**5):
        assert expressions(hostile) == []


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
