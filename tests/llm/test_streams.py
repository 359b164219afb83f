"""Streams of our own, one tool turn per API, and everything that can happen to a stream on its way."""

from __future__ import annotations

from pathlib import Path

import httpx2
import msgspec
import pytest

from app.domain.errors import FailureKind, ProviderError
from app.domain.messages import Api, ToolCall, Usage
from app.domain.models import Completed, ReasoningDelta, TextDelta
from app.llm.answers import MAX_ANSWER
from app.llm.target import MAX_BODY
from tests.llm.messages import REQUEST
from tests.llm.wire import API_NAMES, Pieces, Script, Served, ask, attempt, collect, cut, provider, whole

FOLDER = Path(__file__).parent / "streams"
TEXT = "Größe: 😀 one\u2028line"
USAGE = Usage(input_tokens=127, cached_input_tokens=100, cache_write_tokens=7, output_tokens=42, reasoning_tokens=9)
UNKNOWN = (
    ': a comment\n\nevent: ping\ndata: {"type": "ping", "id": null, "choices": []}\n\n'
    'event: from.the.future\ndata: {"type": "from.the.future", "delta": {"type": 7}, "index": "x"}\n\n'
)
TYPES = {"content-type": "application/json"}

each_api = pytest.mark.parametrize("api", API_NAMES)


def stream(api: Api) -> bytes:
    return (FOLDER / f"{api.removesuffix('-messages')}-tools.sse").read_bytes()


def expect_tool_turn(api: Api, got: Completed) -> None:
    prefix = "toolu" if api == "anthropic-messages" else "call"
    assert got.content == TEXT
    assert got.tool_calls == (
        ToolCall(f"{prefix}_1", "calculator", '{"expression": "6*7"}'),
        ToolCall(f"{prefix}_2", "clock", "{}"),
    )
    assert got.stop == "tool_calls"
    assert got.usage == USAGE
    assert got.native is not None
    assert got.native.api == api


@each_api
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 64])
async def test_however_it_is_cut(api: Api, size: int) -> None:
    script = Script(Served(Pieces(cut(stream(api), size))))
    async with provider(api, script) as opened:
        tried = attempt()
        chunks = await collect(opened.target("model-1").stream(REQUEST, tried))
    expect_tool_turn(api, whole(chunks))
    reasoning = "".join(chunk.text for chunk in chunks if isinstance(chunk, ReasoningDelta))
    assert reasoning == "Sechs mal sieben …"
    assert (tried.usage, tried.finish) == (USAGE, "tool_calls")
    assert tried.response_model.endswith("-test")
    assert tried.response_id


@each_api
async def test_text_of_one_read_is_one_delta(api: Api) -> None:
    script = Script(Served(stream(api)))
    async with provider(api, script) as opened:
        chunks = await collect(opened.target("model-1").stream(REQUEST, attempt()))
    assert [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)] == [TEXT]


@each_api
async def test_arguments_on_the_way_are_a_sign_of_life(api: Api) -> None:
    frames = [frame + b"\n\n" for frame in stream(api).split(b"\n\n") if frame]
    script = Script(Served(Pieces(frames)))
    async with provider(api, script) as opened:
        chunks = await collect(opened.target("model-1").stream(REQUEST, attempt()))
    last_text = max(n for n, chunk in enumerate(chunks) if isinstance(chunk, TextDelta))
    assert ReasoningDelta("") in chunks[last_text:]


@each_api
@pytest.mark.parametrize("ending", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
async def test_other_line_endings(api: Api, ending: bytes) -> None:
    script = Script(Served(Pieces(cut(b"\xef\xbb\xbf" + stream(api).replace(b"\n", ending), 3))))
    async with provider(api, script) as opened:
        expect_tool_turn(api, await ask(opened))


@each_api
async def test_what_is_unknown_is_passed_over(api: Api) -> None:
    body = UNKNOWN.encode() + stream(api).replace(b"\n\n", b"\n\n" + UNKNOWN.encode())
    if api == "openai-chat":  # its chunks have no type: an unknown one is a chunk without a choice
        body = body.replace(b'"delta": {"type": 7}, ', b"")
    async with provider(api, Script(Served(body))) as opened:
        expect_tool_turn(api, await ask(opened))


@each_api
async def test_an_end_before_the_end_is_never_an_answer(api: Api) -> None:
    frames = [frame + b"\n\n" for frame in stream(api).split(b"\n\n") if frame]
    script = Script()
    async with provider(api, script) as opened:
        for end in range(len(frames)):
            for half in (b"", frames[end][: len(frames[end]) // 2]):
                script.answers.append(Served(b"".join(frames[:end]) + half))
                with pytest.raises(ProviderError) as failure:
                    await ask(opened)
                assert failure.value.kind == "stream_broken"
                assert (failure.value.provider, failure.value.model) == (opened.name, "model-1")


@each_api
async def test_a_connection_that_breaks(api: Api) -> None:
    body = Pieces([stream(api)[:-40]], broken=httpx2.ReadError("gone"))
    async with provider(api, Script(Served(body))) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert failure.value.kind == "stream_broken"
    assert body.closed


@each_api
@pytest.mark.parametrize("frame", [b"not json", b"[1, 2", b'"text"', b'{"id": "\xff"}', b"[" * 100_000])
async def test_a_frame_that_cannot_be_read(api: Api, frame: bytes) -> None:
    body = stream(api).replace(b"\n\n", b"\n\ndata: " + frame + b"\n\n", 1)
    async with provider(api, Script(Served(body))) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert failure.value.kind == "stream_broken"


@each_api
async def test_lone_surrogates_and_nul_become_replacement_characters(api: Api) -> None:
    body = stream(api).replace("Größe: ".encode(), rb"a\u0000b\ud800c")
    async with provider(api, Script(Served(body))) as opened:
        got = await ask(opened)
    assert got.content == "a\ufffdb\ufffdc😀 one\u2028line"


OVERLOADED = '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
QUOTA = '{"type": "error", "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "x"}}'
FLAT = '{"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": null}'
FAILED = (
    '{"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "x"}}}'
)


@pytest.mark.parametrize(
    ("api", "event", "kind"),
    [
        ("anthropic-messages", OVERLOADED, "overloaded"),
        ("anthropic-messages", '{"type": "error", "error": {"type": "api_error"}}', "server_error"),
        ("anthropic-messages", '{"type": "error", "error": {"type": "new_error"}}', "stream_error"),
        ("openai-responses", QUOTA, "quota"),
        ("openai-responses", FLAT, "rate_limited"),
        ("openai-responses", FAILED, "server_error"),
        ("openai-chat", QUOTA, "quota"),
        ("openai-chat", '{"error": {"message": "no type", "type": null, "code": null}}', "stream_error"),
        ("openai-chat", '{"error": "just a word"}', "stream_error"),
    ],
)
async def test_an_error_inside_a_200(api: Api, event: str, kind: FailureKind) -> None:
    first = stream(api).split(b"\n\n")[0] + b"\n\n"
    for body in (f"data: {event}\n\n".encode(), first + f"event: error\ndata: {event}\n\n".encode()):
        async with provider(api, Script(Served(body))) as opened:
            with pytest.raises(ProviderError) as failure:
                await ask(opened)
        assert failure.value.kind == kind
        assert failure.value.status == 200


@each_api
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>Sign in</html>"),
        ("image/png", b"\x89PNG\r\n"),
        ("text/event-stream", b"<html>Sign in</html>"),
        ("text/event-stream", b""),
        ("application/json", b"<html>Sign in</html>"),
        ("application/json", b"{}"),
        ("application/json", b"[]"),
        ("application/json", b""),
    ],
)
async def test_an_answer_that_is_none(api: Api, content_type: str, body: bytes) -> None:
    async with provider(api, Script(Served(body, headers={"content-type": content_type}))) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert failure.value.kind == "stream_broken"


@each_api
async def test_a_json_body_without_end_is_refused(api: Api) -> None:
    piece = b" " * (1 << 20)
    body = Pieces(piece for _ in range(MAX_BODY // len(piece) + 2))
    async with provider(api, Script(Served(body, headers=TYPES))) as opened:
        with pytest.raises(ProviderError, match="larger than"):
            await ask(opened)
    assert body.closed


MEGABYTE = "x" * (1 << 20)
ENDLESS: dict[tuple[Api, str], tuple[object, ...]] = {
    ("anthropic-messages", "text"): (
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": MEGABYTE}},
    ),
    ("anthropic-messages", "reasoning"): (
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": MEGABYTE}},
    ),
    ("anthropic-messages", "arguments"): (
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": MEGABYTE}},
    ),
    ("openai-responses", "text"): ({"type": "response.output_text.delta", "delta": MEGABYTE},),
    ("openai-responses", "reasoning"): ({"type": "response.reasoning_text.delta", "delta": MEGABYTE},),
    ("openai-responses", "arguments"): (
        {"type": "response.output_item.done", "output_index": 0, "item": {"arguments": MEGABYTE}},
    ),
    ("openai-chat", "text"): ({"choices": [{"delta": {"content": MEGABYTE}}]},),
    ("openai-chat", "reasoning"): ({"choices": [{"delta": {"reasoning_content": MEGABYTE}}]},),
    ("openai-chat", "arguments"): ({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": MEGABYTE}}]}}]},),
}
"""What begins an answer, where something must, and a frame that can go on for ever."""


@pytest.mark.parametrize(("api", "kind"), ENDLESS)
async def test_a_stream_without_end_is_refused(api: Api, kind: str) -> None:
    *start, piece = (b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in ENDLESS[api, kind])
    enough = MAX_ANSWER // len(MEGABYTE)
    body = Pieces([*start, *[piece] * (enough + 1)])
    async with provider(api, Script(Served(body))) as opened:
        with pytest.raises(ProviderError, match=f"larger than {MAX_ANSWER} characters") as failure:
            await ask(opened)
    assert failure.value.kind == "stream_broken"
    assert body.closed


async def test_reasoning_of_compatible_servers_goes_back_with_the_calls() -> None:
    async with provider("openai-chat", Script(Served(stream("openai-chat")))) as opened:
        got = await ask(opened)
    assert got.native is not None
    (item,) = msgspec.json.decode(got.native.items)
    assert item["reasoning_content"] == "Sechs mal sieben …"
    assert [call["id"] for call in item["tool_calls"]] == ["call_1", "call_2"]


async def test_thinking_is_kept_with_its_signature_and_the_parsed_input() -> None:
    async with provider("anthropic-messages", Script(Served(stream("anthropic-messages")))) as opened:
        got = await ask(opened)
    assert got.native is not None
    assert msgspec.json.decode(got.native.items) == [
        {"type": "thinking", "thinking": "Sechs mal sieben …", "signature": "c2ln"},
        {"type": "text", "text": TEXT},
        {"type": "tool_use", "id": "toolu_1", "name": "calculator", "input": {"expression": "6*7"}},
        {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
    ]


async def test_reasoning_items_are_kept_whole_and_in_order() -> None:
    async with provider("openai-responses", Script(Served(stream("openai-responses")))) as opened:
        got = await ask(opened)
    assert got.native is not None
    items = msgspec.json.decode(got.native.items)
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call", "function_call"]
    assert items[0]["encrypted_content"] == "ZW5j"


@pytest.mark.parametrize(
    ("api", "body", "stop", "content"),
    [
        (
            "anthropic-messages",
            {"content": [{"type": "text", "text": "I"}], "stop_reason": "refusal"},
            "refusal",
            "I",
        ),
        ("anthropic-messages", {"content": [], "stop_reason": "pause_turn"}, "pause", ""),
        ("anthropic-messages", {"content": [], "stop_reason": "model_context_window_exceeded"}, "length", ""),
        ("anthropic-messages", {"content": [], "stop_reason": "tool_use"}, "stop", ""),
        ("anthropic-messages", {"content": [], "stop_reason": "new"}, "stop", ""),
        (
            "openai-responses",
            {
                "status": "completed",
                "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}],
            },
            "refusal",
            "No.",
        ),
        (
            "openai-responses",
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "",
        ),
        (
            "openai-chat",
            {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]},
            "refusal",
            "No.",
        ),
        (
            "openai-chat",
            {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
            "content_filter",
            "x",
        ),
    ],
)
async def test_why_it_stopped(api: Api, body: object, stop: str, content: str) -> None:
    async with provider(api, Script(Served(msgspec.json.encode(body), headers=TYPES))) as opened:
        got = await ask(opened)
    assert (got.stop, got.content, got.native, got.usage) == (stop, content, None, None)


async def test_parallel_calls_that_all_claim_index_0() -> None:
    calls = [{"index": 0, "id": f"c{n}", "function": {"name": "clock", "arguments": "{}"}} for n in range(2)]
    chunk = {"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "stop"}]}
    body = b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n"
    async with provider("openai-chat", Script(Served(body))) as opened:
        got = await ask(opened)
    assert [call.id for call in got.tool_calls] == ["c0", "c1"]
    assert got.stop == "tool_calls"


async def test_calls_without_index_and_id() -> None:
    pieces = [{"function": {"name": "clock", "arguments": "{"}}, {"function": {"arguments": "}"}}]
    chunks = [{"id": "r", "choices": [{"delta": {"tool_calls": [piece]}}]} for piece in pieces]
    chunks.append({"id": "r", "choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    body = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    async with provider("openai-chat", Script(Served(body))) as opened:
        got = await ask(opened)
    assert got.tool_calls == (ToolCall("call_r_0", "clock", "{}"),)
