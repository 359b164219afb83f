"""HTTP errors through the real SDK clients, mocked with respx, and what each of them means."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import httpx
import httpx2
import msgspec
import pytest
import respx

from app.domain.errors import FailureKind, ProviderError
from app.domain.messages import Api
from app.llm.failures import http_failure, retry_after, should_retry
from app.llm.providers import ModelProvider, open_provider
from tests.llm.messages import REQUEST
from tests.llm.wire import API_NAMES, ask

PATHS = {
    "anthropic-messages": "/v1/messages",
    "openai-responses": "/v1/responses",
    "openai-chat": "/v1/chat/completions",
}


@asynccontextmanager
async def mocked(api: Api) -> AsyncIterator[tuple[ModelProvider, respx.Route]]:
    """A provider whose one endpoint respx answers."""
    router = respx.MockRouter(assert_all_called=False)
    route = router.post(f"https://models.test{PATHS[api]}")

    async def bridge(request: httpx2.Request) -> httpx2.Response:
        outer = httpx.Request(
            request.method, str(request.url), headers=list(request.headers.multi_items()), content=await request.aread()
        )
        response = await router.async_handler(outer)
        return httpx2.Response(
            response.status_code, headers=list(response.headers.multi_items()), content=await response.aread()
        )

    async with serve(api, httpx2.AsyncClient(transport=httpx2.MockTransport(bridge))) as opened:
        yield opened, route


@asynccontextmanager
async def serve(api: Api, http_client: httpx2.AsyncClient) -> AsyncIterator[ModelProvider]:
    base = "https://models.test" if api == "anthropic-messages" else "https://models.test/v1"
    opened = open_provider(
        name="mocked",
        kind="anthropic" if api == "anthropic-messages" else "openai",
        api="responses" if api == "openai-responses" else None,
        api_key="secret-key",
        base_url=base,
        own_host=False,
        http_client=http_client,
    )
    try:
        yield opened
    finally:
        await opened.aclose()


async def failure_of(api: Api, answer: httpx.Response) -> ProviderError:
    async with mocked(api) as (opened, route):
        route.mock(return_value=answer)
        with pytest.raises(ProviderError) as failure:
            await ask(opened, REQUEST)
        assert route.call_count == 1, "the SDK must not retry: attempts and budgets are the router's"
    assert (failure.value.provider, failure.value.model) == ("mocked", "model-1")
    return failure.value


def openai_error(type: str | None, code: str | None = None, words: str = "Words that change.") -> dict[str, Any]:
    return {"error": {"type": type, "code": code, "message": words, "param": None}}


def anthropic_error(type: str, words: str = "Words that change.", **details: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": words, "details": details or None}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai_error("invalid_request_error", "context_length_exceeded"), "context_window"),
        (400, openai_error("invalid_request_error", "model_not_found"), "unknown_model"),
        (400, openai_error("invalid_request_error", "invalid_function_parameters"), "tool_schema"),
        (400, openai_error("invalid_request_error", "content_policy_violation"), "content_policy"),
        (400, openai_error("invalid_request_error", "invalid_prompt"), "content_policy"),
        (
            400,
            openai_error("BadRequestError", words="This model's maximum context length is 8 tokens"),
            "context_window",
        ),
        (401, openai_error("invalid_request_error", "invalid_api_key"), "auth"),
        (403, openai_error("invalid_request_error", None), "permission"),
        (404, openai_error("invalid_request_error", "model_not_found"), "unknown_model"),
        (408, openai_error(None), "conflict"),
        (409, openai_error(None), "conflict"),
        (413, openai_error(None), "bad_request"),
        (418, openai_error(None), "bad_request"),
        (422, openai_error("invalid_request_error"), "bad_request"),
        (429, openai_error("tokens", "rate_limit_exceeded"), "rate_limited"),
        (429, openai_error("rate_limit_error", "slow_down"), "rate_limited"),
        (429, openai_error("insufficient_quota", None), "quota"),
        (429, openai_error("insufficient_quota", "credit_balance_exhausted"), "quota"),
        (500, openai_error("server_error"), "server_error"),
        (502, "<html>Bad Gateway</html>", "server_error"),
        (503, openai_error("service_unavailable_error", "server_is_overloaded"), "overloaded"),
        (503, "", "overloaded"),
        (404, {"object": "error", "message": "no such model", "type": "NotFoundError", "code": 404}, "unknown_model"),
        (500, {"error": "a bare word"}, "server_error"),
        (500, [1, 2], "server_error"),
    ],
)
@pytest.mark.parametrize("api", ["openai-responses", "openai-chat"])
async def test_openai_errors(api: Api, status: int, body: object, kind: FailureKind) -> None:
    await _check(api, status, body, kind)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, anthropic_error("invalid_request_error"), "bad_request"),
        (400, anthropic_error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "context_window"),
        (400, anthropic_error("invalid_request_error", "tools.0.custom.input_schema: no"), "tool_schema"),
        (413, anthropic_error("invalid_request_error", "prompt is too long"), "bad_request"),
        (401, anthropic_error("authentication_error"), "auth"),
        (402, anthropic_error("billing_error"), "quota"),
        (403, anthropic_error("permission_error"), "permission"),
        (404, anthropic_error("not_found_error"), "unknown_model"),
        (409, anthropic_error("conflict_error"), "conflict"),
        (413, anthropic_error("request_too_large"), "bad_request"),
        (429, anthropic_error("rate_limit_error"), "rate_limited"),
        (429, anthropic_error("rate_limit_error", error_code="enforced_spend_limit_reached"), "quota"),
        (500, anthropic_error("api_error"), "server_error"),
        (504, anthropic_error("timeout_error"), "server_error"),
        (529, anthropic_error("overloaded_error"), "overloaded"),
        (529, "", "overloaded"),
    ],
)
async def test_anthropic_errors(status: int, body: object, kind: FailureKind) -> None:
    await _check("anthropic-messages", status, body, kind)


async def _check(api: Api, status: int, body: object, kind: FailureKind) -> None:
    headers = {"x-should-retry": "true", "retry-after-ms": "1500", "retry-after": "9"}
    content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    failure = await failure_of(api, httpx.Response(status, headers=headers, content=content))
    assert (failure.kind, failure.status, failure.retry_after, failure.should_retry) == (kind, status, 1.5, True)
    assert failure.refuses_request == (kind in ("bad_request", "context_window", "content_policy", "tool_schema"))
    assert "secret-key" not in str(failure)
    assert str(status) in str(failure)


@pytest.mark.parametrize("api", API_NAMES)
@pytest.mark.parametrize(
    ("error", "kind"),
    [(httpx2.ConnectError("refused"), "connect"), (httpx2.ConnectTimeout("late"), "connect_timeout")],
)
async def test_no_connection(api: Api, error: Exception, kind: FailureKind) -> None:
    async def refuse(request: httpx2.Request) -> httpx2.Response:
        raise error

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(refuse))
    async with serve(api, http_client) as opened:
        with pytest.raises(ProviderError) as failure:
            await ask(opened)
    assert (failure.value.kind, failure.value.status) == (kind, None)


@pytest.mark.parametrize("api", API_NAMES)
async def test_retry_after_of_a_200_is_no_error(api: Api) -> None:
    body: dict[str, Any] = {
        "anthropic-messages": {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"},
        "openai-responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
        },
        "openai-chat": {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]},
    }
    async with mocked(api) as (opened, route):
        route.respond(200, json=body[api], headers={"retry-after": "30"})
        assert (await ask(opened)).content == "x"
        request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer secret-key"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "text/event-stream"
    assert msgspec.json.decode(request.content)["stream"] is True


def test_a_vendor_s_words_are_passed_on_only_where_they_name_the_field() -> None:
    assert "Words that change." in str(
        http_failure(400, {"request-id": "req_1"}, anthropic_error("invalid_request_error"))
    )
    assert "req_1" in str(http_failure(400, {"request-id": "req_1"}, anthropic_error("invalid_request_error")))
    assert "Words" not in str(http_failure(401, {}, anthropic_error("authentication_error")))


def test_retry_after() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "-1"}) == 0.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after-ms": "soon", "retry-after": "9"}) == 9.0
    seconds = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert seconds is not None
    assert 55 < seconds <= 60


def test_should_retry() -> None:
    assert should_retry({"x-should-retry": "true"}) is True
    assert should_retry({"x-should-retry": " False"}) is False
    assert should_retry({}) is should_retry({"x-should-retry": "perhaps"}) is None
