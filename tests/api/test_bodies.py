"""Bodies that cannot be served: each ends as a problem that says what to do, before anything ran."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.bodies import (
    AsyncChatRequest,
    CancelRequest,
    ChatRequest,
    DecisionRequest,
    ForkRequest,
    QuestionRequest,
    ResetRequest,
    RunAgentRequest,
    RunRequest,
    StateRequest,
)
from app.api.decoding import decode_body
from app.domain.errors import RequestError
from app.domain.screening import Screening
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

JSON = {"Content-Type": "application/json"}
NO_JSON = [
    b"", b" ", b"{", b'{"message":', b'{"message":"a"', b'{"message":"a"}}', b'{"message":"a"} x', b"nul", b"'a'",
    b'{"message":"a",}', b'{message:"a"}', b'{"message":"a" "agent":"b"}', b'{"message":NaN}', b'{"message":01}',
    b'\xef\xbb\xbf{"message":"a"}', b'{"message":"\x01"}', b'{"message":"\x00"}', b'{"message":"a"}\x00', b"\x00",
    b'{"message":"\\ud800"}', b'{"message":"\\udc00 x"}', b'{"message":"\\ud800\\ud800"}',
    b'{"message":"a","context":{"\\udfff":1}}', b'{"message":"a","tags":{"a":"\\ud83d"}}', b'{"message":"\\x"}',
    b'{"message":"\\u12"}',
]  # fmt: skip
NO_UTF8 = [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"]
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("/chat", {"message": 5}, "message"),
    ("/chat", {"message": ""}, "message"),
    ("/chat", {"message": None}, "message"),
    ("/chat", {"message": ["a"]}, "message"),
    ("/chat", {}, "message"),
    ("/chat", {"message": "a", "agent": 1}, "agent"),
    ("/chat", {"message": "a", "session_id": "with space"}, "session_id"),
    ("/chat", {"message": "a", "session_id": ""}, "session_id"),
    ("/chat", {"message": "a", "session_id": "x" * 129}, "session_id"),
    ("/chat", {"message": "a", "session_id": "a\n"}, "session_id"),
    ("/chat", {"message": "a", "session_id": "é"}, "session_id"),
    ("/chat", {"message": "a", "session_id": 7}, "session_id"),
    ("/chat", {"message": "a", "user_id": ""}, "user_id"),
    ("/chat", {"message": "a", "user_id": "u" * 257}, "user_id"),
    ("/chat", {"message": "a", "context": []}, "context"),
    ("/chat", {"message": "a", "context": "x"}, "context"),
    ("/chat", {"message": "a", "timeout": "5"}, "timeout"),
    ("/chat", {"message": "a", "timeout": 0}, "timeout"),
    ("/chat", {"message": "a", "timeout": -1}, "timeout"),
    ("/chat", {"message": "a", "timeout": 86_401}, "timeout"),
    ("/chat", {"message": "a", "timeout": True}, "timeout"),
    ("/chat", {"message": "a", "tags": {"a": 1}}, "tags[...]"),
    ("/chat", {"message": "a", "tags": None}, "tags"),
    ("/chat", {"message": "a", "include_steps": "yes"}, "include_steps"),
    ("/chat", {"message": "a", "include_steps": 1}, "include_steps"),
    ("/chat/stream", {"message": 5}, "message"),
    ("/agents/helper", {}, "input"),
    ("/agents/helper", {"message": "a"}, "message"),
    ("/agents/helper", {"input": 1, "timeout": "1"}, "timeout"),
    ("/agents/helper/stream", {"input": 1, "agent": "other"}, "agent"),
    ("/agent", {"question": "a", "timeout": "30"}, "timeout"),
    ("/agent", {"question": "a", "timeout": None}, "timeout"),
    ("/agent", {"question": "a", "user_id": "u"}, "user_id"),
    ("/reset", {"session_id": None}, "session_id"),
    ("/reset", {}, "session_id"),
]
WITH_NUL = [
    '{"message":"\\u0000"}', '{"message":"a","context":{"k":"\\u0000"}}', '{"message":"a","context":{"\\u0000":1}}',
    '{"message":"a","context":{"k":[{"l":"x\\u0000y"}]}}', '{"message":"a","tags":{"\\u0000":"v"}}',
    '{"message":"a","user_id":"\\u0000"}', '{"message":"a","agent":"\\u0000"}', '{"message":"\\\\\\u0000"}',
]  # fmt: skip
ASKING = (
    "/chat", "/chat/stream", "/agents/helper", "/agents/helper/stream", "/agent", "/reset", "/chat/async", "/v1/runs",
    "/v1/runs/r/messages", "/v1/approvals/a",
)  # fmt: skip
OPTIONAL = ("/v1/runs/r/cancel", "/v1/runs/r/resume", "/v1/sessions/s/fork")
"""Paths whose body may be missing."""


@pytest.fixture
async def e(edge: Any) -> AsyncIterator[Any]:
    roomy = react(name="helper", safety=Screening(max_input=100_000))
    async with edge(ScriptedProvider(*[says("ok")] * 50), roomy, react(name="other")) as opened:
        yield opened


async def test_bodies_that_are_no_json(e: Any) -> None:
    for body in NO_JSON:
        check(await e.client.post("/chat", content=body, headers=JSON), 400, "malformed_json")
    assert e.provider.requests == []


async def test_bodies_that_are_no_utf8(e: Any) -> None:
    for bad in NO_UTF8:
        for path, body in (
            ("/chat", b'{"message":"%b"}' % bad),
            ("/chat", b'{"message":"a","context":{"%b":1}}' % bad),
            ("/agents/helper", b'{"input":"%b"}' % bad),
        ):
            check(await e.client.post(path, content=body, headers=JSON), 400, "invalid_encoding")


async def test_bodies_of_the_wrong_shape(e: Any) -> None:
    for path, body, where in WRONG:
        problem = check(await e.client.post(path, json=body), 422, "validation_error")
        assert [error["path"] for error in problem["errors"]] == [where], body
        assert problem["errors"][0]["message"], body
    for text in (b"[]", b'"text"', b"5", b"null", b"true", b"[{}]"):
        for path in ASKING:
            problem = check(await e.client.post(path, content=text, headers=JSON), 422, "validation_error")
            assert problem["errors"][0]["path"] == ""
            assert "object" in problem["detail"]
    assert e.provider.requests == []


async def test_an_unknown_field_is_named(e: Any) -> None:
    for path, body in (("/chat", {"message": "a"}), ("/agents/helper", {"input": 1}), ("/agent", {"question": "a"})):
        problem = check(await e.client.post(path, json=body | {"sesion_id": "s"}), 422, "validation_error")
        assert "sesion_id" in problem["detail"]
    problem = check(await e.client.post("/reset", json={"session_id": "s", "sesion_id": "s"}), 422, "validation_error")
    assert "sesion_id" in problem["detail"]


async def test_nul_is_refused_wherever_it_stands(e: Any) -> None:
    for body in WITH_NUL:
        problem = check(await e.client.post("/chat", content=body, headers=JSON), 422, "validation_error")
        assert "NUL" in problem["detail"]
    deep = '{"input":{"a":["\\u0000"]}}'
    check(await e.client.post("/agents/helper", content=deep, headers=JSON), 422, "validation_error")
    assert e.provider.requests == []


async def test_text_about_nul_is_no_nul(e: Any) -> None:
    response = await e.client.post("/chat", content='{"message":"a \\\\u0000 is a NUL"}', headers=JSON)
    assert response.status_code == 200
    assert e.provider.requests[0].messages[0].content == "a \\u0000 is a NUL"


async def test_deep_nesting_is_refused(e: Any) -> None:
    for depth in (150, 10_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            deep = opening * depth + "1" + closing * depth
            for path, body in (
                ("/agents/helper", f'{{"input":{deep}}}'),
                ("/chat", f'{{"message":"a","context":{{"deep":{deep}}}}}'),
                ("/chat", f'{{"message":"a","unknown":{deep}}}'),
                ("/chat", f'{{"message":{deep}}}'),
                ("/chat", deep),
                ("/reset", deep),
            ):
                check(await e.client.post(path, content=body, headers=JSON), 422, "validation_error")
            for path in ("/chat", "/agents/helper"):
                response = await e.client.post(path, content=opening * depth, headers=JSON)
                assert response.status_code in (400, 422), response.text
    assert e.provider.requests == []


async def test_nesting_up_to_a_hundred_levels_is_served(e: Any) -> None:
    for levels, status in ((99, 200), (100, 422)):
        body = '{"input":' + "[" * levels + "]" * levels + "}"
        assert (await e.client.post("/agents/helper", content=body, headers=JSON)).status_code == status
    assert (await e.client.post("/chat", json={"message": "[{" * 300 + '\\"'})).status_code == 200


async def test_huge_numbers_are_kept_or_refused(e: Any) -> None:
    numbers = ("1e999", "-1e999", "1" * 400, "-" + "1" * 400, "1" * 5000, "1e-999", "0." + "1" * 400, "-0", str(2**64))
    for number in numbers:
        for body in (f'{{"input":{number}}}', f'{{"input":"a","context":{{"n":[{number}]}}}}'):
            response = await e.client.post("/agents/helper", content=body, headers=JSON)
            if response.status_code != 200:
                check(response, 422, "validation_error")
                continue
            log = await e.client.get(
                f"/v1/runs/{response.json()['run_id']}/events", headers={"Accept": "application/json"}
            )
            created = log.json()["data"][0]["data"]
            sent = json.loads(body)
            assert (created["input"], created["context"]) == (sent["input"], sent.get("context"))
    for number in numbers[:5]:
        body = f'{{"message":"a","timeout":{number}}}'
        check(await e.client.post("/chat", content=body, headers=JSON), 422, "validation_error")


async def test_bodies_that_are_too_large(e: Any) -> None:
    body = b'{"message":"' + b"a" * 100_000 + b'"}'
    check(await e.client.post("/chat", content=body, headers=JSON), 413, "body_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    check(await e.client.post("/chat", content=pieces(), headers=JSON), 413, "body_too_large")
    fits = b'{"message":"' + b"a" * (100_000 - 14) + b'"}'
    assert (await e.client.post("/chat", content=fits, headers=JSON)).status_code == 200


async def test_bodies_that_are_too_large_for_the_real_server(served: Any) -> None:
    async with served(ScriptedProvider(says("ok"))) as (_, client):

        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"message":"'
            for _ in range(20):
                yield b"a" * 10_000

        check(await client.post("/chat", content=pieces(), headers=JSON), 413, "body_too_large")
        check(await client.post("/chat", content=b"a" * 200_000, headers=JSON), 413, "body_too_large")
        assert (await client.post("/chat", json={"message": "a"})).status_code == 200


async def test_bodies_of_another_media_type(e: Any) -> None:
    for media_type in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/msgpack", "nonsense", "text/json"):  # fmt: skip
        headers = {} if media_type is None else {"Content-Type": media_type}
        for path in ASKING:
            response = await e.client.post(path, content=b'{"message":"a"}', headers=headers)
            problem = check(response, 415, "unsupported_media_type")
            assert "application/json" in problem["detail"]
    assert e.provider.requests == []


async def test_bodies_that_are_coded(e: Any) -> None:
    for coding in ("gzip", "br", "deflate", "identity, gzip", "x"):
        response = await e.client.post("/chat", content=b'{"message":"a"}', headers=JSON | {"Content-Encoding": coding})
        assert "Content-Encoding" in check(response, 415, "unsupported_media_type")["detail"]
    plain = await e.client.post("/chat", content=b'{"message":"a"}', headers=JSON | {"Content-Encoding": "identity"})
    assert plain.status_code == 200


async def test_json_under_its_other_names(e: Any) -> None:
    for media_type in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"):
        response = await e.client.post("/chat", content=b'{"message":"a"}', headers={"Content-Type": media_type})
        assert response.status_code == 200, media_type


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "message", "input", "question", "session_id", "user_id", "context", "timeout", "tags", "include_steps", "agent",
        "items", "callback_url", "background", "on_busy", "stop_after", "not_before", "priority", "decision", "arguments",
        "comment", "state", "version", "after_run", "reason", "content",
    ]
)  # fmt: skip
objects = st.dictionaries(fields, anything | st.just("a") | st.just({}) | st.just({"k": "v"}), max_size=8)
shaped = (objects | anything).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
mangled = st.tuples(shaped, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
)
bodies = st.binary(max_size=64) | shaped | mangled


SHAPES = [
    ChatRequest, RunAgentRequest, QuestionRequest, ResetRequest, AsyncChatRequest, RunRequest, DecisionRequest, StateRequest,
    ForkRequest, CancelRequest,
]  # fmt: skip


@given(body=bodies, wanted=st.sampled_from(SHAPES))
@settings(max_examples=400, deadline=None)
def test_any_body_is_decoded_or_refused(body: bytes, wanted: Any) -> None:
    try:
        found = decode_body(body, wanted)
    except RequestError as error:
        found = error
    assert isinstance(found, wanted) or found.code in ("malformed_json", "invalid_encoding", "validation_error")


@given(path=st.sampled_from(ASKING + OPTIONAL), body=bodies)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_body_is_answered_or_refused(e: Any, path: str, body: bytes) -> None:
    e.provider.answers.append(says("ok"))
    response = await e.client.post(path, content=body, headers=JSON)
    assert response.status_code in (200, 201, 202, 204, 400, 404, 422), response.text


@pytest.mark.parametrize(
    "tags",
    [{"k": "v" * 257}, {"k" * 65: "v"}, {f"k{number}": "v" for number in range(65)}],
    ids=["a long value", "a long name", "many"],
)
async def test_tags_are_bounded(edge: Any, tags: dict[str, str]) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        for path, body in (
            ("/chat", {"message": "x"}),
            ("/v1/runs", {"agent": "helper", "input": "x"}),
            ("/chat/async", {"items": [{"message": "x", "tags": tags}]}),
        ):
            wanted = body if "items" in body else body | {"tags": tags}
            check(await e.client.post(path, json=wanted), 422, "validation_error")
        most = {f"{number:064}": "v" * 256 for number in range(64)}
        assert (await e.client.post("/chat", json={"message": "x", "tags": most})).status_code == 200
