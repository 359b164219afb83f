"""Parameters that a model refuses: left out and said so, through the real SDK clients; any other 400 stays its caller's mistake."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import msgspec
import pytest

from app.domain.errors import ProviderError
from app.domain.messages import Api
from app.domain.models import ModelRequest
from tests.llm.messages import REQUEST
from tests.llm.test_failures import anthropic_error, mocked
from tests.llm.test_streams import stream
from tests.llm.wire import API_NAMES, ask, attempt

FULL = msgspec.structs.replace(REQUEST, temperature=0.2, reasoning="low", max_output_tokens=50)
SSE = {"content-type": "text/event-stream"}


def openai_refusal(parameter: str | None, code: str | None, words: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "code": code, "message": words, "param": parameter}}


UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model."
NO_VALUE = (
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported."
)
EXTRA = "Extra inputs are not permitted"
VLLM = {
    "object": "error",
    "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'reasoning_effort'), 'msg': 'Extra inputs are not permitted'}]",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
PYDANTIC = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": EXTRA, "input": {}}]}

REFUSED: list[tuple[Api, int, Any, str]] = [
    ("openai-responses", 400, openai_refusal("temperature", "unsupported_parameter", UNSUPPORTED), "temperature"),
    ("openai-responses", 400, openai_refusal("temperature", "unsupported_value", NO_VALUE), "temperature"),
    ("openai-responses", 400, openai_refusal("reasoning.effort", "unsupported_value", "No."), "reasoning"),
    (
        "openai-responses",
        400,
        openai_refusal("include", None, "Encrypted content is not supported with this model."),
        "include",
    ),
    (
        "openai-chat",
        400,
        openai_refusal(None, None, "Unrecognized request argument supplied: reasoning_effort"),
        "reasoning_effort",
    ),
    (
        "openai-chat",
        400,
        openai_refusal(None, None, "property 'reasoning_effort' is unsupported"),
        "reasoning_effort",
    ),
    (
        "openai-chat",
        400,
        {"error": {"code": 400, "message": 'Unknown name "temperature": Cannot find field.', "status": "INVALID"}},
        "temperature",
    ),
    ("openai-chat", 400, VLLM, "reasoning_effort"),
    ("openai-chat", 422, PYDANTIC, "stream_options"),
    ("anthropic-messages", 400, anthropic_error("invalid_request_error", f"temperature: {EXTRA}"), "temperature"),
    (
        "anthropic-messages",
        400,
        anthropic_error("invalid_request_error", "`temperature` is deprecated for this model."),
        "temperature",
    ),
    (
        "anthropic-messages",
        400,
        anthropic_error("invalid_request_error", "`temperature` may only be set to 1 when thinking is enabled."),
        "temperature",
    ),
    (
        "anthropic-messages",
        400,
        anthropic_error("invalid_request_error", "adaptive thinking is not supported on this model"),
        "thinking",
    ),
    (
        "anthropic-messages",
        400,
        anthropic_error("invalid_request_error", "This model does not support the effort parameter."),
        "effort",
    ),
    ("anthropic-messages", 400, anthropic_error("invalid_request_error", f"output_config.effort: {EXTRA}"), "effort"),
]


def answered(api: Api) -> httpx.Response:
    return httpx.Response(200, headers=SSE, content=stream(api))


def sent(call: Any) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(call.request.content)
    return body


@pytest.mark.parametrize(("api", "status", "refusal", "name"), REFUSED)
async def test_a_refused_parameter_is_left_out_and_said_so(
    api: Api, status: int, refusal: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt is repeated once without it; the next call does not pay for the refusal again."""
    first, second, third = attempt(), attempt(), attempt()
    plain = msgspec.structs.replace(FULL, temperature=None, reasoning=None)
    async with mocked(api) as (opened, route):
        route.side_effect = [httpx.Response(status, json=refusal), *(answered(api) for _ in range(3))]
        with caplog.at_level(logging.WARNING, logger="app.llm.refusals"):
            await ask(opened, FULL, tried=first)
            assert route.call_count == 2
            await ask(opened, FULL, tried=second)
            assert route.call_count == 3
            await ask(opened, plain, tried=third)
        shown = opened.refused("model-1")
        bodies = [sent(call) for call in route.calls]
    holder = "output_config" if name == "effort" else name
    assert [holder in body for body in bodies[:3]] == [True, False, False]
    rest = {key: value for key, value in bodies[0].items() if key != holder}
    assert bodies[1] == bodies[2] == rest, "nothing else is missing"
    assert first.dropped_parameters == second.dropped_parameters == (name,)
    assert third.dropped_parameters == ((name,) if name in ("include", "stream_options") else ())
    assert [parameter.partition("=")[0] for parameter in shown] == [name]
    told = [record for record in caplog.records if record.message == "parameter_refused"]
    assert [(record.__dict__["target"], record.__dict__["parameter"]) for record in told] == [("mocked/model-1", name)]


async def test_a_value_is_refused_alone() -> None:
    other = attempt()
    async with mocked("openai-responses") as (opened, route):
        no = openai_refusal("reasoning.effort", "unsupported_value", "'low' is not supported with this model.")
        route.side_effect = [httpx.Response(400, json=no), *(answered("openai-responses") for _ in range(2))]
        await ask(opened, FULL)
        await ask(opened, msgspec.structs.replace(FULL, reasoning="high"), tried=other)
        assert [sent(call).get("reasoning") for call in route.calls] == [{"effort": "low"}, None, {"effort": "high"}]
        assert opened.refused("model-1") == ["reasoning=low"]
    assert other.dropped_parameters == ()


async def test_several_are_refused_one_after_another() -> None:
    tried = attempt()
    async with mocked("anthropic-messages") as (opened, route):
        words = (f"temperature: {EXTRA}", "adaptive thinking is not supported on this model", f"output_config: {EXTRA}")
        route.side_effect = [
            *(httpx.Response(400, json=anthropic_error("invalid_request_error", said)) for said in words[:2]),
            httpx.Response(
                400, json=anthropic_error("invalid_request_error", "effort: Extra inputs are not permitted")
            ),
            answered("anthropic-messages"),
        ]
        await ask(opened, FULL, tried=tried)
        assert set(sent(route.calls[-1])) == {"model", "max_tokens", "stream", "tools", "system", "messages"}
        assert "2023-06-01" in route.calls[0].request.headers["anthropic-version"]
        assert "2023-06-01" not in route.calls[-1].request.headers["anthropic-version"]
    assert tried.dropped_parameters == ("effort", "temperature", "thinking")


async def test_a_limit_is_said_by_its_other_name_and_never_left_out() -> None:
    tried = attempt()
    async with mocked("openai-chat") as (opened, route):
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        no = openai_refusal("max_tokens", "unsupported_parameter", words)
        neither = openai_refusal("max_completion_tokens", "unsupported_parameter", UNSUPPORTED)
        route.side_effect = [
            httpx.Response(400, json=no),
            answered("openai-chat"),
            *(httpx.Response(400, json=neither) for _ in range(2)),
        ]
        await ask(opened, FULL, tried=tried)
        bodies = [sent(call) for call in route.calls]
        assert [body.get("max_tokens") for body in bodies] == [50, None]
        assert [body.get("max_completion_tokens") for body in bodies] == [None, 50]
        assert tried.dropped_parameters == ("max_tokens",)
        with pytest.raises(ProviderError):
            await ask(opened, FULL)
        assert all("max_tokens" in body or "max_completion_tokens" in body for body in map(sent, route.calls))
        assert route.call_count == 4


MISTAKES: list[tuple[Api, int, Any]] = [
    ("openai-responses", 400, openai_refusal("temperature", "decimal_above_max_value", "temperature is above 2")),
    ("openai-responses", 400, openai_refusal("max_output_tokens", "unsupported_parameter", UNSUPPORTED)),
    ("openai-responses", 400, openai_refusal("tools[0].name", "unsupported_value", "temperature is not supported")),
    ("openai-chat", 400, openai_refusal(None, None, "temperature must be at most 2")),
    ("openai-chat", 400, openai_refusal("messages", "unsupported_parameter", "messages.name is not supported")),
    ("openai-chat", 400, openai_refusal("max_tokens", None, "max_tokens is too large: 50. At most 40.")),
    ("openai-chat", 422, {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}),
    ("openai-chat", 413, openai_refusal("temperature", "unsupported_parameter", UNSUPPORTED)),
    ("anthropic-messages", 400, anthropic_error("invalid_request_error", "temperature: range: 0..1")),
    ("anthropic-messages", 400, anthropic_error("invalid_request_error", "tools.0.custom.temperature: " + EXTRA)),
    ("anthropic-messages", 400, anthropic_error("invalid_request_error", f"messages.0.content: {EXTRA}")),
    (
        "anthropic-messages",
        400,
        anthropic_error("invalid_request_error", "max_tokens: 50 > 40, which is not supported"),
    ),
]


@pytest.mark.parametrize(("api", "status", "mistake"), MISTAKES)
async def test_any_other_refusal_is_the_callers_mistake(api: Api, status: int, mistake: Any) -> None:
    tried = attempt()
    async with mocked(api) as (opened, route):
        route.mock(return_value=httpx.Response(status, json=mistake))
        with pytest.raises(ProviderError) as failure:
            await ask(opened, FULL, tried=tried)
        assert route.call_count == 1
        assert opened.refused("model-1") == []
    assert failure.value.kind in ("bad_request", "tool_schema")
    assert tried.dropped_parameters == ()


@pytest.mark.parametrize("api", API_NAMES)
async def test_what_was_not_sent_is_not_what_was_refused(api: Api) -> None:
    """A provider that goes on refusing is asked no more often than there is something to leave out."""
    bare = ModelRequest(route="r", system="", messages=REQUEST.messages)
    async with mocked(api) as (opened, route):
        no = openai_refusal("temperature", "unsupported_parameter", f"temperature: {EXTRA}")
        route.mock(return_value=httpx.Response(400, json=no))
        for request, times in ((bare, 1), (FULL, 3)):
            with pytest.raises(ProviderError):
                await ask(opened, request)
            assert route.call_count == times
