"""Every row of the taxonomy, from what a provider does on the wire to what the router does about it, through both SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import httpx2
import msgspec
import pytest

from app.domain.errors import FailureKind, ProvidersUnavailable
from app.domain.messages import Api
from app.llm.providers import ModelProvider, open_provider
from app.llm.router import Route
from app.llm.taxonomy import BY_CODE, BY_STATUS, BY_TYPE, BY_WORDS, POLICIES
from tests.llm.targets import HELLO, FakeTarget, Ran, call
from tests.llm.test_failures import PATHS
from tests.llm.test_streams import stream
from tests.llm.wire import API_NAMES

Answers = Callable[[httpx2.Request], httpx2.Response]
EVENTS = {"content-type": "text/event-stream"}
IMPATIENT = {"first_token_timeout": 0.03, "idle_timeout": 0.03}


def says(status: int, type: str = "x", code: str | None = None, words: str = "", **headers: str) -> Answers:
    """An HTTP error in a shape that all three APIs read."""
    body = {"type": "error", "error": {"type": type, "code": code, "message": words, "param": None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx2.Response(status, headers=named, content=msgspec.json.encode(body))


def raises(error: Exception) -> Answers:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


class Body(httpx2.AsyncByteStream):
    """These bytes, and then silence, or the end."""

    def __init__(self, data: bytes, silent: bool) -> None:
        self._data = data
        self._silent = silent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        if self._silent:
            await asyncio.Event().wait()


def streams(data: bytes, *, silent: bool = False) -> Answers:
    return lambda _: httpx2.Response(200, headers=EVENTS, stream=Body(data, silent))


def begun(api: Api) -> bytes:
    """The first frames of an answer, up to its first that shows something."""
    frames = stream(api).split(b"\n\n")
    shown = next(n for n, frame in enumerate(frames) if b"Sechs" in frame)
    return b"\n\n".join(frames[: shown + 1]) + b"\n\n"


def error_event(api: Api) -> bytes:
    return (
        begun(api) + b'event: error\ndata: {"type": "error", "error": {"type": "from_the_future", "message": "x"}}\n\n'
    )


class Row(msgspec.Struct, frozen=True):
    """What happens, on that API, and what follows: how often it is asked while another target is left and how often alone,
    whether that other one is asked, and what its breaker hears of every attempt."""

    kind: FailureKind
    cause: Callable[[Api], Answers]
    asked: int
    alone: int
    next: bool
    verdict: str
    times: dict[str, float] = {}


def row(kind: FailureKind, cause: Answers, *rest: Any, **more: Any) -> Row:
    return Row(kind, lambda api: cause, *rest, **more)


ROWS: dict[str, Row] = {
    "no connection": row("connect", raises(httpx2.ConnectError("refused")), 3, 3, True, "counts"),
    "no connection in time": row("connect_timeout", raises(httpx2.ConnectTimeout("late")), 1, 3, True, "counts"),
    "no first token": row("first_token_timeout", streams(b"", silent=True), 1, 3, True, "counts", times=IMPATIENT),
    "silence": Row(
        "idle_timeout", lambda api: streams(begun(api), silent=True), 1, 3, True, "counts", {"idle_timeout": 0.03}
    ),
    "the call's time is over": row(
        "total_timeout", streams(b"", silent=True), 1, 1, False, "abandoned", times={"timeout": 0.03}
    ),
    "408": row("conflict", says(408), 3, 3, True, "counts"),
    "409": row("conflict", says(409), 3, 3, True, "counts"),
    "429": row("rate_limited", says(429), 3, 3, True, "counts"),
    "429 for a second": row("rate_limited", says(429, retry_after="1"), 3, 3, True, "counts"),
    "429 for longer": row("rate_limited", says(429, retry_after_ms="1001"), 1, 3, True, "counts"),
    "429 for half a minute and more": row("rate_limited", says(429, retry_after="31"), 1, 3, True, "opens"),
    "429 for longer than the call": row("rate_limited", says(429, retry_after="60"), 1, 1, True, "opens"),
    "429 without hope": row("rate_limited", says(429, x_should_retry="false"), 1, 1, True, "counts"),
    "no money": row("quota", says(429, "insufficient_quota", "insufficient_quota"), 1, 1, True, "opens"),
    "no money, try again": row("quota", says(402, x_should_retry="true"), 1, 1, True, "opens"),
    "401": row("auth", says(401), 1, 1, True, "opens"),
    "403": row("permission", says(403), 1, 1, True, "counts"),
    "404": row("unknown_model", says(404), 1, 1, True, "opens"),
    "400": row("bad_request", says(400), 1, 1, False, "abandoned"),
    "400, try again": row("bad_request", says(400, x_should_retry="true"), 3, 3, False, "abandoned"),
    "413": row("bad_request", says(413), 1, 1, False, "abandoned"),
    "422": row("bad_request", says(422), 1, 1, False, "abandoned"),
    "too long": row("context_window", says(400, "x", "context_length_exceeded"), 1, 1, False, "abandoned"),
    "too long, in words": row(
        "context_window", says(400, "invalid_request_error", words="prompt is too long"), 1, 1, False, "abandoned"
    ),
    "not that content": row("content_policy", says(400, "x", "content_policy_violation"), 1, 1, False, "abandoned"),
    "not that tool": row("tool_schema", says(400, "x", "invalid_function_parameters"), 1, 1, False, "abandoned"),
    "500": row("server_error", says(500), 3, 3, True, "counts"),
    "500, do not try again": row("server_error", says(500, x_should_retry="false"), 1, 1, True, "counts"),
    "503": row("overloaded", says(503), 3, 3, True, "counts"),
    "529": row("overloaded", says(529, "overloaded_error"), 3, 3, True, "counts"),
    "an early end": Row("stream_broken", lambda api: streams(begun(api)), 3, 3, True, "counts"),
    "an error event": Row("stream_error", lambda api: streams(error_event(api)), 3, 3, True, "counts"),
}


def test_every_kind_has_a_row_and_a_cause() -> None:
    kinds = set(get_args(FailureKind))
    assert POLICIES.keys() == kinds
    assert {row.kind for row in ROWS.values()} == kinds - {"circuit_open"}  # which nothing on the wire says
    assert {*BY_CODE.values(), *BY_STATUS.values(), *BY_TYPE.values(), *(kind for _, kind in BY_WORDS)} <= kinds


def opened(api: Api, answers: Answers) -> tuple[ModelProvider, list[httpx2.Request]]:
    requests: list[httpx2.Request] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return answers(request)

    provider = open_provider(
        name="first",
        kind="anthropic" if api == "anthropic-messages" else "openai",
        api="responses" if api == "openai-responses" else "chat" if api == "openai-chat" else None,
        api_key="k",
        base_url="https://models.test" + ("" if api == "anthropic-messages" else "/v1"),
        own_host=False,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )
    return provider, requests


async def ask(api: Api, row: Row, *others: FakeTarget) -> tuple[Ran, int]:
    """One call to a target that does so, with others behind it; how often it was asked."""
    provider, requests = opened(api, row.cause(api))
    try:
        times = {"timeout": 60.0} | row.times
        ran = await call(Route(targets=(provider.target("model-1"), *others), **times), part=0.0)  # type: ignore[arg-type]
    finally:
        await provider.aclose()
    assert all(request.url.path == PATHS[api] for request in requests)
    return ran, len(requests)


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("api", API_NAMES)
async def test_what_follows(api: Api, case: str) -> None:
    row = ROWS[case]
    ran, asked = await ask(api, row, FakeTarget("other", *HELLO))
    expected = [(n, "first", row.kind) for n in range(1, row.asked + 1)]
    assert ran.outcomes == expected + ([(row.asked + 1, "other", "ok")] if row.next else [])
    assert asked == row.asked
    assert ran.gate.told == [("first", row.verdict)] * row.asked + ([("other", "succeeded")] if row.next else [])
    assert (ran.failure is None) == row.next

    ran, asked = await ask(api, row)
    assert ran.outcomes == [(n, "first", row.kind) for n in range(1, row.alone + 1)]
    assert ran.failure is not None
    assert ran.failure.kind == row.kind
    assert isinstance(ran.failure, ProvidersUnavailable) == (not ran.failure.refuses_request)
    assert asked == row.alone


REFUSALS: dict[Api, dict[str, Any]] = {
    "anthropic-messages": {"content": [{"type": "text", "text": "No."}], "stop_reason": "refusal"},
    "openai-responses": {
        "status": "incomplete",
        "incomplete_details": {"reason": "content_filter"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "No."}]}],
    },
    "openai-chat": {"choices": [{"message": {"content": "No."}, "finish_reason": "content_filter"}]},
}


@pytest.mark.parametrize("api", API_NAMES)
async def test_a_refusal_with_200_is_an_answer(api: Api) -> None:
    body = msgspec.json.encode(REFUSALS[api])
    provider, requests = opened(
        api, lambda _: httpx2.Response(200, headers={"content-type": "application/json"}, content=body)
    )
    other = FakeTarget("other", *HELLO)
    ran = await call(Route(targets=(provider.target("model-1"), other)))
    await provider.aclose()
    assert (ran.failure, ran.outcomes, ran.gate.told) == (None, [(1, "first", "ok")], [("first", "succeeded")])
    assert (len(requests), other.asked) == (1, 0)
    assert ran.recorder.attempts[0].finish == ("refusal" if api == "anthropic-messages" else "content_filter")
