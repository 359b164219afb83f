"""Requests as the vendors accept them, to the byte."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.domain.messages import Api, Message, Native, ToolCall
from app.domain.models import ModelRequest
from app.llm import anthropic_messages, openai_chat, openai_responses
from app.llm.history import NO_RESULT, user_text, wire_id
from app.llm.schemas import enforceable
from tests.llm.messages import CALCULATOR, REQUEST, assistant, result, user
from tests.llm.test_streams import stream
from tests.llm.wire import API_NAMES, Script, Served, ask, provider

APIS = {
    "anthropic-messages": anthropic_messages.API,
    "openai-responses": openai_responses.api(own_host=True),
    "openai-chat": openai_chat.api(own_host=True),
}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
ROUND = (
    user("Six times seven?", context='{"unit":"apples"}'),
    assistant(
        "Let me see.", ToolCall("call_1", "calculator", '{"expression": "6*7"}'), ToolCall("call_2", "clock", "")
    ),
    result("call_2", "noon"),
    result("call_1", "no such operator", is_error=True),
    user("Hurry."),
)


def body(api: Api, request: ModelRequest, model: str = "model-1") -> dict[str, Any]:
    content, _ = APIS[api].write(request, model)
    decoded = msgspec.json.decode(content)
    assert isinstance(decoded, dict)
    return decoded


def conversation(api: Api, *messages: Message, **options: Any) -> list[Any]:
    request = ModelRequest(route="default", system="", messages=messages, tools=(CALCULATOR,), **options)
    written = body(api, request)
    turns: list[Any] = written["input" if api == "openai-responses" else "messages"]
    return turns


GOLDEN = {
    "anthropic-messages": (
        b'{"model":"model-1","max_tokens":8192,"stream":true,"tools":[{"name":"calculator","description":"Works out a sum.",'
        b'"input_schema":{"type":"object","properties":{"expression":{"type":"string"}},"required":["expression"]}}],'
        b'"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user",'
        b'"content":[{"type":"text","text":"What is 6 times 7?","cache_control":{"type":"ephemeral"}}]}]}'
    ),
    "openai-responses": (
        b'{"model":"model-1","stream":true,"store":false,"include":["reasoning.encrypted_content"],"tools":[{"type":"function",'
        b'"name":"calculator","description":"Works out a sum.","parameters":{"type":"object","properties":{"expression":'
        b'{"type":"string"}},"required":["expression"]},"strict":false}],"instructions":"Be brief.",'
        b'"input":[{"role":"user","content":"What is 6 times 7?"}]}'
    ),
    "openai-chat": (
        b'{"model":"model-1","stream":true,"stream_options":{"include_usage":true},"tools":[{"type":"function","function":'
        b'{"name":"calculator","description":"Works out a sum.","parameters":{"type":"object","properties":{"expression":'
        b'{"type":"string"}},"required":["expression"]}}}],"messages":[{"role":"system","content":"Be brief."},'
        b'{"role":"user","content":"What is 6 times 7?"}]}'
    ),
}


@pytest.mark.parametrize("api", API_NAMES)
async def test_the_same_request_gives_the_same_bytes(api: Api) -> None:
    script = Script(Served(stream(api)), Served(stream(api)))
    async with provider(api, script) as opened:
        await ask(opened)
        await ask(
            opened, ModelRequest(route="default", system="Be brief.", messages=REQUEST.messages, tools=REQUEST.tools)
        )
    assert [await request.aread() for request in script.requests] == [GOLDEN[api], GOLDEN[api]]


def test_a_round_for_anthropic() -> None:
    """All results in the next user message, first, in the order of the calls; then the user's words."""
    assert conversation("anthropic-messages", *ROUND) == [
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": '<context>\n{"unit":"apples"}\n</context>\n\nSix times seven?',
                    "cache_control": {"type": "ephemeral"},
                }
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "calculator", "input": {"expression": "6*7"}},
                {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "no such operator", "is_error": True},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "noon"},
                {"type": "text", "text": "Hurry.", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ]


def test_a_round_for_responses() -> None:
    assert conversation("openai-responses", *ROUND) == [
        {"role": "user", "content": user_text(ROUND[0])},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "calculator", "arguments": '{"expression": "6*7"}'},
        {"type": "function_call", "call_id": "call_2", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "no such operator"},
        {"type": "function_call_output", "call_id": "call_2", "output": "noon"},
        {"role": "user", "content": "Hurry."},
    ]


def test_a_round_for_chat() -> None:
    assert conversation("openai-chat", *ROUND) == [
        {"role": "user", "content": user_text(ROUND[0])},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "calculator", "arguments": '{"expression": "6*7"}'},
                },
                {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "no such operator"},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        {"role": "user", "content": "Hurry."},
    ]


@pytest.mark.parametrize("api", API_NAMES)
@pytest.mark.parametrize("text", ["not json", "[1]", '{"a": "\\ud800"}', "[" * 100_000])
def test_arguments_that_are_no_object_go_back_wrapped(api: Api, text: str) -> None:
    turns = conversation(api, user("x"), assistant("", ToolCall("c", "clock", text)), result("c", "bad"))
    wrapped = {"invalid_json": text}
    if api == "anthropic-messages":
        assert turns[1]["content"][0]["input"] == wrapped
    elif api == "openai-chat":
        assert msgspec.json.decode(turns[1]["tool_calls"][0]["function"]["arguments"]) == wrapped
    else:
        assert msgspec.json.decode(turns[1]["arguments"]) == wrapped


@pytest.mark.parametrize("api", API_NAMES)
def test_every_call_has_a_result_and_every_result_a_call(api: Api) -> None:
    turns = conversation(
        api, user("x"), assistant("", ToolCall("c", "clock", "{}")), user("still there?"), result("stray", "y")
    )
    text = msgspec.json.encode(turns).decode()
    assert text.count(NO_RESULT) == 1
    assert "stray" not in text
    assert text.index(NO_RESULT) < text.index("still there?")


@pytest.mark.parametrize("api", API_NAMES)
def test_empty_answers_are_left_out_and_users_may_speak_twice(api: Api) -> None:
    turns = conversation(api, user("one"), assistant(" "), user("two"))
    texts = [
        part["text"] if isinstance(part, dict) else part
        for turn in turns
        for part in (turn["content"] if isinstance(turn["content"], list) else [turn["content"]])
    ]
    assert texts == ["one", "two"]
    assert {turn["role"] for turn in turns} == {"user"}


def test_anthropic_refuses_blank_text() -> None:
    (turn,) = conversation("anthropic-messages", user(" \n"))
    assert turn["content"][0]["text"].strip()


@pytest.mark.parametrize("api", API_NAMES)
async def test_what_an_api_sent_goes_back_to_it_as_it_came_and_to_others_in_normal_form(api: Api) -> None:
    async with provider(api, Script(Served(stream(api))), base_url="http://models.test/v1") as opened:
        got = await ask(opened)
    assert got.native is not None
    items = msgspec.json.decode(got.native.items)
    told = Message(id="m", role="assistant", content=got.content, tool_calls=got.tool_calls, native=got.native)
    history = (user("x"), told, *(result(call.id, "y") for call in got.tool_calls))

    own = APIS[api] if api != "openai-chat" else openai_chat.api(own_host=False)
    content, _ = own.write(ModelRequest(route="r", system="", messages=history), "model-1")
    written = msgspec.json.decode(content)
    if api == "anthropic-messages":
        assert written["messages"][1]["content"] == items
    elif api == "openai-chat":
        assert written["messages"][1:2] == items
    else:
        assert written["input"][1:5] == items

    for other in API_NAMES:
        if other != api:
            text = msgspec.json.encode(conversation(other, *history)).decode()
            assert "Sechs mal sieben" not in text
            assert text.count(got.tool_calls[0].id) == 2


def test_openai_itself_is_not_sent_the_reasoning_of_compatible_servers() -> None:
    native = Native(api="openai-chat", items=msgspec.Raw(b'[{"role":"assistant","reasoning_content":"hm"}]'))
    told = Message(id="m", role="assistant", content="x", native=native)
    assert conversation("openai-chat", user("q"), told)[1] == {"role": "assistant", "content": "x"}


def test_ids_of_other_servers_are_replaced_in_the_call_and_its_result() -> None:
    strange = "functions.clock:0"
    turns = conversation(
        "anthropic-messages", user("x"), assistant("", ToolCall(strange, "clock", "{}")), result(strange, "noon")
    )
    replaced = turns[1]["content"][0]["id"]
    assert replaced == turns[2]["content"][0]["tool_use_id"] == wire_id(strange) != strange
    assert wire_id("toolu_01ABC-x") == "toolu_01ABC-x"
    assert wire_id(replaced) == replaced


@pytest.mark.parametrize("api", API_NAMES)
def test_no_more_calls_keeps_the_tools(api: Api) -> None:
    request = msgspec.structs.replace(REQUEST, tool_choice="none")
    with_calls, without = body(api, REQUEST), body(api, request)
    choice = without.pop("tool_choice")
    assert choice == ({"type": "none"} if api == "anthropic-messages" else "none")
    assert without == with_calls


def test_a_history_with_calls_for_an_agent_without_tools() -> None:
    request = ModelRequest(route="r", system="", messages=ROUND)
    written = body("anthropic-messages", request)
    assert [tool["name"] for tool in written["tools"]] == ["calculator", "clock"]
    assert written["tool_choice"] == {"type": "none"}
    assert "tools" not in body("openai-chat", request)
    assert "tools" not in body("openai-responses", request)


FULL = msgspec.structs.replace(REQUEST, temperature=0.2, max_output_tokens=100, reasoning="low", output_schema=SCHEMA)


def test_options_of_anthropic() -> None:
    written = body("anthropic-messages", FULL)
    assert written["max_tokens"] == 100
    assert written["temperature"] == 0.2
    assert written["thinking"] == {"type": "adaptive"}
    assert written["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    # The API version that the SDK names refuses `temperature`.
    assert anthropic_messages.write(FULL, "m")[1] == {"anthropic-version": "2023-06-01"}
    assert anthropic_messages.write(REQUEST, "m")[1] == {}


def test_options_of_responses() -> None:
    written = body("openai-responses", FULL)
    assert (written["temperature"], written["max_output_tokens"]) == (0.2, 100)
    assert written["reasoning"] == {"effort": "low"}
    assert written["text"]["format"] == {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
    assert "include" not in body("openai-responses", REQUEST, model="gpt-4.1-mini")


def test_options_of_chat() -> None:
    written = body("openai-chat", FULL)
    assert (written["temperature"], written["max_completion_tokens"]) == (0.2, 100)
    assert "max_tokens" not in written
    assert written["reasoning_effort"] == "low"
    assert written["response_format"]["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}
    compatible = msgspec.json.decode(openai_chat.api(own_host=False).write(FULL, "m")[0])
    assert compatible["max_tokens"] == 100
    assert "max_completion_tokens" not in compatible


def test_only_openai_itself_is_told_what_requests_share_a_cache() -> None:
    request = msgspec.structs.replace(REQUEST, affinity="session-1")
    keys = {body(api, request)["prompt_cache_key"] for api in ("openai-responses", "openai-chat")}
    assert len(keys) == 1
    assert "session-1" not in (key := keys.pop())
    assert len(key) == 32
    later = msgspec.structs.replace(request, messages=ROUND)
    assert body("openai-chat", later)["prompt_cache_key"] == key
    assert body("openai-chat", msgspec.structs.replace(request, affinity="session-2"))["prompt_cache_key"] != key
    for elsewhere in (openai_chat.api(own_host=False), openai_responses.api(own_host=False)):
        assert b"prompt_cache_key" not in elsewhere.write(request, "m")[0]
    assert "prompt_cache_key" not in body("openai-responses", REQUEST)


def test_a_schema_that_nobody_enforces_is_still_told() -> None:
    loose = {"type": "object", "properties": {"answer": {"type": "integer", "minimum": 3}}}
    request = msgspec.structs.replace(REQUEST, output_schema=loose)
    assert '"minimum":3' in body("anthropic-messages", request)["system"][0]["text"]
    assert "output_config" not in body("anthropic-messages", request)
    assert body("openai-responses", request)["text"]["format"]["strict"] is False
    assert body("openai-chat", request)["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("schema", "yes"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "$defs": {"x": {"type": "array", "items": {"type": "string"}}}}, True),
        ({**SCHEMA, "additionalProperties": True}, False),
        ({**SCHEMA, "required": []}, False),
        ({**SCHEMA, "properties": {"answer": {"type": "object"}}}, False),
        ({**SCHEMA, "properties": {"answer": {"type": "string", "pattern": "x"}}}, False),
        ({**SCHEMA, "anyOf": [SCHEMA]}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({}, False),
    ],
)
def test_enforceable(schema: dict[str, Any], yes: bool) -> None:
    assert enforceable(schema) is yes
