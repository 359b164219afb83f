"""What is wrong with a request is told, as a problem of the table, and never as a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

JSON = {"Content-Type": "application/json"}


def check(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, complete as RFC 9457 and the contract want it."""
    assert response.status_code == status, (response.request.url, response.request.headers, response.text)
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:steadyhand:problem:{code.replace('_', '-')}"
    assert problem["title"]
    assert len(problem["detail"]) > 10
    assert problem["request_id"] == response.headers["x-request-id"]
    assert set(problem) <= {"type", "title", "status", "detail", "code", "request_id", "errors", "run_id"}
    assert "Traceback" not in response.text
    return problem


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "1") -> str:
    return opening * depth + inner + closing * depth


@pytest.fixture
async def e(edge: Any) -> AsyncIterator[Any]:
    def endless() -> Any:
        return ScriptedProvider(*[says("ok")] * 50)

    async with edge(endless(), react(name="helper"), react(name="other"), max_body=100_000) as opened:
        yield opened


async def test_bodies_that_are_no_json(e: Any) -> None:
    for body in [
        b"",
        b" ",
        b"{",
        b'{"message":',
        b'{"message":"a"',
        b'{"message":"a"}}',
        b'{"message":"a"} x',
        b"nul",
        b"'a'",
        b'{"message":"a",}',
        b'{message:"a"}',
        b'{"message":"a" "agent":"b"}',
        b'{"message":NaN}',
        b'{"message":01}',
        b'\xef\xbb\xbf{"message":"a"}',
        b'{"message":"\x01"}',
        b'{"message":"\x00"}',
        b'{"message":"a"}\x00',
        b"\x00",
        b'{"message":"\\ud800"}',
        b'{"message":"\\udc00 x"}',
        b'{"message":"\\ud800\\ud800"}',
        b'{"message":"a","context":{"\\udfff":1}}',
        b'{"message":"a","tags":{"a":"\\ud83d"}}',
        b'{"message":"\\x"}',
        b'{"message":"\\u12"}',
    ]:
        check(await e.client.post("/chat", content=body, headers=JSON), 400, "malformed_json")
        assert e.provider.requests == []

    @pytest.mark.parametrize(
        "bad", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"]
    )
    async def test_bodies_that_are_no_utf8(e: Any, bad: bytes) -> None:
        for body in (b'{"message":"' + bad + b'"}', b'{"message":"a","context":{"' + bad + b'":1}}'):
            check(await e.client.post("/chat", content=body, headers=JSON), 400, "invalid_encoding")
        check(
            await e.client.post("/agents/helper", content=b'{"input":"' + bad + b'"}', headers=JSON),
            400,
            "invalid_encoding",
        )

    @pytest.mark.parametrize(
        ("path", "body", "where"),
        [
            ("/chat", {"message": 5}, "message"),
            ("/chat", {"message": ""}, "message"),
            ("/chat", {"message": None}, "message"),
            ("/chat", {"message": ["a"]}, "message"),
            ("/chat", {}, ""),
            ("/chat", {"message": "a", "extra": 1}, ""),
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
            ("/chat", [], ""),
            ("/chat", "text", ""),
            ("/chat", 5, ""),
            ("/chat", None, ""),
            ("/chat", True, ""),
            ("/chat/stream", {"message": 5}, "message"),
            ("/agents/helper", {}, ""),
            ("/agents/helper", {"message": "a"}, ""),
            ("/agents/helper", {"input": 1, "timeout": "1"}, "timeout"),
            ("/agents/helper/stream", {"input": 1, "agent": "other"}, ""),
            ("/agent", {"question": "a", "timeout": "30"}, "timeout"),
            ("/agent", {"question": "a", "timeout": None}, "timeout"),
            ("/agent", {"question": "a", "user_id": "u"}, ""),
            ("/reset", {"session_id": None}, "session_id"),
            ("/reset", {}, ""),
        ],
    )
    async def test_bodies_of_the_wrong_shape(e: Any, path: str, body: Any, where: str) -> None:
        problem = check(await e.client.post(path, json=body), 422, "validation_error")
        assert [error["path"] for error in problem["errors"]] == [where]
        assert problem["errors"][0]["message"]
        assert problem["errors"][0]["message"] in problem["detail"]
        assert e.provider.requests == []

    async def test_an_unknown_field_is_named(e: Any) -> None:
        problem = check(await e.client.post("/chat", json={"message": "a", "sesion_id": "s"}), 422, "validation_error")
        assert "sesion_id" in problem["detail"]

    @pytest.mark.parametrize(
        "body",
        [
            '{"message":"\\u0000"}', '{"message":"a","context":{"k":"\\u0000"}}', '{"message":"a","context":{"\\u0000":1}}',
            '{"message":"a","context":{"k":[{"l":"x\\u0000y"}]}}', '{"message":"a","tags":{"\\u0000":"v"}}',
            '{"message":"a","user_id":"\\u0000"}', '{"message":"a","agent":"\\u0000"}', '{"message":"\\\\\\u0000"}',
        ],
    )  # fmt: skip
    async def test_nul_is_refused_wherever_it_stands(e: Any, body: str) -> None:
        problem = check(await e.client.post("/chat", content=body, headers=JSON), 422, "validation_error")
        assert "NUL" in problem["detail"]
        check(
            await e.client.post("/agents/helper", content='{"input":{"a":["\\u0000"]}}', headers=JSON),
            422,
            "validation_error",
        )

    async def test_text_about_nul_is_no_nul(e: Any) -> None:
        response = await e.client.post("/chat", content='{"message":"a \\\\u0000 is a NUL"}', headers=JSON)
        assert response.status_code == 200
        assert e.provider.requests[0].messages[0].content == "a \\u0000 is a NUL"

    @pytest.mark.parametrize("depth", [150, 10_000])
    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    async def test_deep_nesting_is_refused(e: Any, depth: int, opening: str, closing: str) -> None:
        deep = nested(depth if len(opening) < 6 else depth // 2, opening, closing)
        for path, body in (
            ("/agents/helper", f'{{"input":{deep}}}'),
            ("/chat", f'{{"message":"a","context":{{"deep":{deep}}}}}'),
            ("/chat", f'{{"message":"a","unknown":{deep}}}'),
            ("/chat", f'{{"message":{deep}}}'),
            ("/chat", deep),
            ("/reset", deep),
        ):
            check(await e.client.post(path, content=body, headers=JSON), 422, "validation_error")
        unclosed = await e.client.post("/chat", content=opening * depth, headers=JSON)
        assert unclosed.status_code in (400, 422)
        assert e.provider.requests == []

    async def test_nesting_up_to_a_hundred_levels_is_served(e: Any) -> None:
        response = await e.client.post("/agents/helper", content=f'{{"input":{nested(99)}}}', headers=JSON)
        assert response.status_code == 200
        check(
            await e.client.post("/agents/helper", content=f'{{"input":{nested(100)}}}', headers=JSON),
            422,
            "validation_error",
        )
        brackets = await e.client.post("/chat", json={"message": "[{" * 300 + '\\"'})
        assert brackets.status_code == 200

    @pytest.mark.parametrize(
        "number", ["1e999", "-1e999", "1" * 400, "-" + "1" * 400, "1" * 5000, "1e-999", "0." + "1" * 400, "-0"]
    )
    async def test_huge_numbers_are_kept_or_refused(e: Any, number: str) -> None:
        for path, body in (
            ("/agents/helper", f'{{"input":{number}}}'),
            ("/agents/helper", f'{{"input":[{{"n":{number}}}]}}'),
            ("/chat", f'{{"message":"a","context":{{"n":{number}}}}}'),
        ):
            response = await e.client.post(path, content=body, headers=JSON)
            if response.status_code != 200:
                assert response.json()["code"] in ("validation_error", "malformed_json")
                assert response.status_code in (400, 422)
                continue
            run_id = response.json()["run_id"]
            page = await e.client.get(f"/v1/runs/{run_id}/events", headers={"Accept": "application/json"})
            created = page.json()["data"][0]["data"]
            sent = json.loads(body)
            kept = created["input"] if path != "/chat" else created["context"]
            assert kept == sent.get("input", sent.get("context"))
        check(
            await e.client.post("/chat", content=f'{{"message":"a","timeout":{number}}}', headers=JSON),
            422,
            "validation_error",
        ) if number not in ("1e-999",) else None

    async def test_bodies_that_are_too_large(e: Any) -> None:
        body = b'{"message":"' + b"a" * 100_000 + b'"}'
        check(await e.client.post("/chat", content=body, headers=JSON), 413, "body_too_large")

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 1000):
                yield body[at : at + 1000]

        check(await e.client.post("/chat", content=pieces(), headers=JSON), 413, "body_too_large")
        fits = b'{"message":"' + b"a" * (100_000 - 14) + b'"}'
        assert (await e.client.post("/chat", content=fits, headers=JSON)).status_code == 200

    @pytest.mark.parametrize(
        "media_type",
        [
            None,
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/msgpack",
            "nonsense",
        ],
    )
    async def test_bodies_of_another_media_type(e: Any, media_type: str | None) -> None:
        headers = {} if media_type is None else {"Content-Type": media_type}
        for path in ("/chat", "/chat/stream", "/agents/helper", "/agents/helper/stream", "/agent", "/reset"):
            check(await e.client.post(path, content=b'{"message":"a"}', headers=headers), 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "media_type",
        ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"],
    )
    async def test_json_under_its_other_names(e: Any, media_type: str) -> None:
        response = await e.client.post("/chat", content=b'{"message":"a"}', headers={"Content-Type": media_type})
        assert response.status_code == 200

    async def test_unknown_agents_are_refused_with_those_there_are(e: Any) -> None:
        for path, body in (
            ("/chat", {"message": "a", "agent": "nobody"}),
            ("/chat/stream", {"message": "a", "agent": "nobody"}),
            ("/agents/nobody", {"input": 1}),
            ("/agents/nobody/stream", {"input": 1}),
        ):
            problem = check(await e.client.post(path, json=body), 404, "not_found")
            assert "'nobody'" in problem["detail"]
            assert "helper, other" in problem["detail"]
        check(await e.client.get("/agents/nobody"), 404, "not_found")
        empty = check(await e.client.post("/chat", json={"message": "a", "agent": ""}), 404, "not_found")
        assert "helper, other" in empty["detail"]

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/chats",
            "/v1",
            "/v1/run",
            "/agents/a/b",
            "/chat/",
            "/history",
            "/history/",
            "/%00",
            "/%ff",
            "/..%2f",
            "/docs/x",
            "/openapi.yaml",
        ],
    )
    async def test_unknown_paths(e: Any, path: str) -> None:
        for method in ("GET", "POST"):
            response = await e.client.request(method, path)
            if response.status_code != 405 and path != "/chat/":
                check(response, 404, "not_found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/chat", {"POST"}), ("DELETE", "/chat", {"POST"}), ("PUT", "/agents/helper", {"GET", "POST"}),
            ("POST", "/agents", {"GET"}), ("POST", "/v1/runs", {"GET"}), ("DELETE", "/v1/sessions/s", {"GET"}),
            ("POST", "/v1/runs/r/events", {"GET"}), ("PATCH", "/reset", {"POST"}), ("POST", "/health", {"GET"}),
        ],
    )  # fmt: skip
    async def test_methods_that_a_path_does_not_take(e: Any, method: str, path: str, allowed: set[str]) -> None:
        response = await e.client.request(method, path)
        check(response, 405, "method_not_allowed")
        assert (
            allowed <= {name.strip() for name in response.headers["allow"].split(",")} <= allowed | {"OPTIONS", "HEAD"}
        )

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("/v1/runs?limit=0", "validation_error"), ("/v1/runs?limit=201", "validation_error"),
            ("/v1/runs?limit=x", "validation_error"), ("/v1/runs?limit=", "validation_error"),
            ("/v1/runs?limit=1.5", "validation_error"), ("/v1/runs?status=done", "validation_error"),
            ("/v1/runs?from=yesterday", "validation_error"), ("/v1/runs?to=2026-13-01", "validation_error"),
            ("/v1/runs?from=99999-01-01T00:00:00Z", "validation_error"),
            ("/v1/runs?cursor=x", "invalid_cursor"), ("/v1/runs?cursor=", "invalid_cursor"),
            ("/v1/runs?cursor=%F0%9F%98%80", "invalid_cursor"), ("/v1/runs?cursor=eyJhIjoxfQ", "invalid_cursor"),
            ("/v1/runs?cursor=W10", "invalid_cursor"), ("/v1/runs?agent=%00", "validation_error"),
            ("/v1/runs?session_id=a%00b", "validation_error"), ("/v1/runs?user_id=%00", "validation_error"),
            ("/v1/sessions?limit=0", "validation_error"), ("/v1/sessions?cursor=x", "invalid_cursor"),
            ("/v1/sessions/s/messages?limit=-1", "validation_error"), ("/v1/sessions/s/messages?cursor=x", "invalid_cursor"),
            ("/v1/sessions/s/messages?cursor=%00", "invalid_cursor"),
            ("/v1/runs/RUN/events?limit=0", "validation_error"), ("/v1/runs/RUN/events?view=fast", "validation_error"),
            ("/v1/runs/RUN/events?after=x", "invalid_cursor"), ("/v1/runs/RUN/events?after=-1", "invalid_cursor"),
            ("/v1/runs/RUN/events?after=1.", "invalid_cursor"), ("/v1/runs/RUN/events?after=1.2.3", "invalid_cursor"),
            ("/v1/runs/RUN/events?after=99999999999999999999", "invalid_cursor"),
            ("/v1/runs/RUN/events?after=%D9%A1", "invalid_cursor"), ("/v1/runs/RUN/events?after=6", "invalid_cursor"),
            ("/v1/runs/RUN/events?after=%00", "invalid_cursor"), ("/v1/runs/RUN/events?after=1%0A", "invalid_cursor"),
        ],
    )  # fmt: skip
    async def test_parameters_that_are_wrong(e: Any, path: str, code: str) -> None:
        run_id = (await e.ask(session_id="s"))["run_id"]
        status = 400 if code == "invalid_cursor" else 422
        problem = check(await e.client.get(path.replace("RUN", run_id)), status, code)
        if code == "validation_error" and "%00" not in path:
            name = path.split("?")[1].split("=")[0]
            assert name in problem["detail"]
            assert [error["path"] for error in problem["errors"]] == [name]

    @pytest.mark.parametrize(
        "path",
        ["/history/%00", "/history/%ff", "/v1/runs/%00", "/v1/runs/x%00/steps", "/v1/runs/%00/events", "/v1/sessions/%00",
         "/v1/sessions/%00/messages", "/v1/runs/%ff", "/agents/%00", "/v1/runs/nothing", "/v1/runs/nothing/steps",
         "/v1/runs/nothing/events", "/v1/runs/nothing/events?view=quick", "/history/" + "x" * 2000],
    )  # fmt: skip
    async def test_ids_that_nothing_has(e: Any, path: str) -> None:
        check(await e.client.get(path), 404, "not_found")

    @pytest.mark.parametrize(
        "query",
        [
            "from=0001-01-01T00:00:00%2B14:00",
            "to=9999-12-31T23:59:59-14:00",
            "from=2026-01-01",
            "agent=%ff",
            "agent=%F0%9F%98%80",
            "agent=a&agent=b",
            "unknown=1",
        ],
    )
    async def test_strange_parameters_are_no_fault(e: Any, query: str) -> None:
        assert (await e.client.get(f"/v1/runs?{query}")).status_code in (200, 422)

    async def test_an_idempotency_key_is_refused(e: Any) -> None:
        for path, body in (
            ("/chat", {"message": "a"}), ("/chat/stream", {"message": "a"}), ("/agents/helper", {"input": 1}),
            ("/agents/helper/stream", {"input": 1}), ("/agent", {"question": "a"}), ("/reset", {"session_id": "s"}),
        ):  # fmt: skip
            problem = check(
                await e.client.post(path, json=body, headers={"Idempotency-Key": "k"}), 422, "validation_error"
            )
            assert "Idempotency-Key" in problem["detail"]
        assert e.provider.requests == []

    async def test_every_response_has_the_callers_request_id_or_one_of_ours(e: Any) -> None:
        mine = {"X-Request-Id": "trace-me:1"}
        for response in (
            await e.client.get("/health", headers=mine),
            await e.client.get("/nothing", headers=mine),
            await e.client.put("/chat", headers=mine),
            await e.client.post("/chat", json={"message": 1}, headers=mine),
            await e.client.post("/chat/stream", json={"message": "a"}, headers=mine),
            await e.client.post("/chat", json={"message": "a"}, headers=mine),
        ):
            assert response.headers.get_list("x-request-id") == ["trace-me:1"]
        ours = [
            (await e.client.get("/health", headers=h)).headers["x-request-id"]
            for h in ({}, {"X-Request-Id": "no good"})
        ]
        assert len(set(ours)) == 2
        assert "no good" not in ours

    async def test_a_closed_gate_lets_only_health_through(e: Any) -> None:
        e.gate.closed = "The database lacks migrations: run `steadyhand migrate`."
        for method, path, body in (
            ("POST", "/chat", {"message": "a"}),
            ("GET", "/agents", None),
            ("GET", "/v1/runs", None),
        ):
            response = await e.client.request(method, path, json=body)
            problem = check(response, 503, "not_ready")
            assert "steadyhand migrate" in problem["detail"]
            assert response.headers["retry-after"] == "1"
        for path in ("/health", "/healthz", "/readiness", "/metrics"):
            assert (await e.client.get(path)).status_code == 200
