"""What is wrong with a request besides its body."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.domain.errors import DatabaseUnavailable
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

FAR = base64.urlsafe_b64encode(b'["9999-12-31T23:59:59-14:00","run_1"]').decode().rstrip("=")
WRONG = {
    "validation_error": [
        "/v1/runs?limit=0", "/v1/runs?limit=201", "/v1/runs?limit=x", "/v1/runs?limit=", "/v1/runs?limit=1.5",
        "/v1/runs?status=done", "/v1/runs?from=yesterday", "/v1/runs?to=2026-13-01",
        "/v1/runs?from=99999-01-01T00:00:00Z", "/v1/runs?from=0001-01-01T00:00:00%2B14:00",
        "/v1/runs?to=9999-12-31T23:59:59-14:00", "/v1/runs?to=0.5", "/v1/runs?from=2026", "/v1/runs?from=",
        "/v1/sessions?limit=0", "/v1/sessions/s/messages?limit=-1",
        "/v1/runs/RUN/events?limit=0", "/v1/runs/RUN/events?limit=1001", "/v1/runs/RUN/events?view=fast",
    ],
    "invalid_cursor": [
        "/v1/runs?cursor=x", "/v1/runs?cursor=", "/v1/runs?cursor=%F0%9F%98%80", "/v1/runs?cursor=eyJhIjoxfQ",
        "/v1/runs?cursor=W10", f"/v1/runs?cursor={FAR}", "/v1/sessions?cursor=x", f"/v1/sessions?cursor={FAR}",
        "/v1/sessions/s/messages?cursor=x", "/v1/sessions/s/messages?cursor=%00",
        "/v1/runs/RUN/events?after=x", "/v1/runs/RUN/events?after=-1", "/v1/runs/RUN/events?after=1.",
        "/v1/runs/RUN/events?after=1.2.3", "/v1/runs/RUN/events?after=99999999999999999999",
        "/v1/runs/RUN/events?after=%D9%A1", "/v1/runs/RUN/events?after=6", "/v1/runs/RUN/events?after=2.3",
        "/v1/runs/RUN/events?after=5.1", "/v1/runs/RUN/events?after=%00", "/v1/runs/RUN/events?after=1%0A",
    ],
}  # fmt: skip


@pytest.fixture
async def e(edge: Any) -> AsyncIterator[Any]:
    async with edge(ScriptedProvider(*[says("ok")] * 9), react(name="helper"), react(name="other")) as opened:
        yield opened


async def test_unknown_agents_are_refused_with_those_there_are(e: Any) -> None:
    for name in ("nobody", "", "Helper"):
        for path, body in (
            ("/chat", {"message": "a", "agent": name}),
            ("/chat/stream", {"message": "a", "agent": name}),
            (f"/agents/{name or 'x'}", {"input": 1}),
            (f"/agents/{name or 'x'}/stream", {"input": 1}),
        ):
            problem = check(await e.client.post(path, json=body), 404, "not_found")
            assert "helper, other" in problem["detail"]
    check(await e.client.get("/agents/nobody"), 404, "not_found")
    assert e.provider.requests == []


async def test_unknown_paths(e: Any) -> None:
    for path in ("/", "/chats", "/v1", "/v1/run", "/agents/a/b", "/history", "/%00", "/%ff", "/..%2f", "/docs/x", "/openapi.yaml", "/CHAT"):  # fmt: skip
        for method in ("GET", "POST", "DELETE"):
            check(await e.client.request(method, path), 404, "not_found")


async def test_methods_that_a_path_does_not_take(e: Any) -> None:
    for method, path, allowed in (
        ("GET", "/chat", {"POST"}), ("DELETE", "/chat", {"POST"}), ("PUT", "/agents/helper", {"GET", "POST"}),
        ("POST", "/agents", {"GET"}), ("PUT", "/v1/runs", {"GET", "POST"}), ("PUT", "/v1/sessions/s", {"GET", "DELETE"}),
        ("POST", "/v1/runs/r/events", {"GET"}), ("GET", "/chat/async", {"POST"}), ("GET", "/v1/runs/r/cancel", {"POST"}),
        ("PATCH", "/v1/sessions/s/state", {"GET", "PUT"}), ("DELETE", "/v1/approvals/a", {"GET", "POST"}),
        ("POST", "/v1/approvals", {"GET"}), ("PATCH", "/reset", {"POST"}), ("POST", "/health", {"GET"}),
        ("POST", "/openapi.json", {"GET"}),
    ):  # fmt: skip
        response = await e.client.request(method, path)
        check(response, 405, "method_not_allowed")
        named = {name.strip() for name in response.headers["allow"].split(",")}
        assert allowed <= named <= allowed | {"OPTIONS"}


async def test_parameters_that_are_wrong(e: Any) -> None:
    run_id = (await e.ask(session_id="s"))["run_id"]
    for code, paths in WRONG.items():
        for path in paths:
            response = await e.client.get(path.replace("RUN", run_id))
            problem = check(response, 400 if code == "invalid_cursor" else 422, code)
            if code == "validation_error":
                name = path.split("?")[1].split("=")[0]
                assert name in problem["detail"]
                assert [error["path"] for error in problem["errors"]] == [name]
    for path in ("/v1/runs?agent=%00", "/v1/runs?session_id=a%00b", "/v1/runs?user_id=%00"):
        assert "NUL" in check(await e.client.get(path), 422, "validation_error")["detail"]
    for path in ("/v1/runs?from=2026-01-01T00:00:00Z", "/v1/runs?agent=%ff", "/v1/runs?agent=%F0%9F%98%80", "/v1/runs?unknown=1"):  # fmt: skip
        assert (await e.client.get(path)).status_code == 200, path
    header = await e.client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "nonsense"})
    check(header, 400, "invalid_cursor")


async def test_a_path_is_spelled_one_way(e: Any) -> None:
    for path in ("//v1/runs", "/v1//runs", "///health", "/v1/runs//", "/v1/%2Fruns"):
        check(await e.client.get(f"http://steadyhand{path}"), 404, "not_found")


async def test_ids_that_nothing_has(e: Any) -> None:
    for path in (
        "/history/%00", "/history/%ff", "/v1/runs/%00", "/v1/runs/x%00/steps", "/v1/runs/%00/events", "/v1/sessions/%00",
        "/v1/sessions/%00/messages", "/v1/runs/%ff", "/agents/%00", "/v1/runs/nothing", "/v1/runs/nothing/steps",
        "/v1/runs/nothing/events", "/v1/runs/nothing/events?view=quick", "/history/" + "x" * 2000,
    ):  # fmt: skip
        check(await e.client.get(path), 404, "not_found")
    check(await e.client.get("/v1/runs/nothing/events", headers={"Accept": "application/json"}), 404, "not_found")
    check(await e.client.post("/agents/%00", json={"input": 1}), 404, "not_found")


async def test_an_option_of_the_other_form_of_events_is_refused(e: Any) -> None:
    path = f"/v1/runs/{(await e.ask())['run_id']}/events"
    for query, accept, name in (
        ("view=quick", "application/json", "view"),
        ("limit=5", "text/event-stream", "limit"),
        ("limit=500", "", "limit"),
        ("limit=5&view=quick", "*/*", "limit"),
    ):
        problem = check(await e.client.get(f"{path}?{query}", headers={"Accept": accept}), 422, "validation_error")
        assert [error["path"] for error in problem["errors"]] == [name]
        assert f"`{name}`" in problem["detail"]
    for query, accept in (("view=log&limit=5", "application/json"), ("view=quick", "text/event-stream")):
        assert (await e.client.get(f"{path}?{query}", headers={"Accept": accept})).status_code == 200


async def test_events_are_a_stream_or_a_page_as_the_caller_prefers(e: Any) -> None:
    path = f"/v1/runs/{(await e.ask())['run_id']}/events"
    for accept, expected in (
        ("", "stream"), ("*/*", "stream"), ("text/html", "stream"), ("text/event-stream", "stream"),
        ("text/event-stream, application/json", "stream"), ("text/event-stream, application/json;q=0.9", "stream"),
        ("application/json;q=0.5, text/event-stream", "stream"), ("application/json;q=0", "stream"),
        ("application/json; q=0.0, */*", "stream"), ("application/*, text/*;q=0.5, text/event-stream", "stream"),
        ("application/jsonl", "stream"), ("application/problem+json", "stream"),
        ("application/json", "page"), ("application/json, */*", "page"), ("*/*, application/json", "page"),
        ("application/json, text/event-stream", "page"), ("text/event-stream;q=0.9, application/json", "page"),
        ("text/event-stream;q=0, */*", "page"), ("Application/JSON; charset=utf-8", "page"), ("application/*", "page"),
        ("application/json;q=inf", "page"), ("application/json;q=", "page"), ("application/json, text/plain, */*", "page"),
    ):  # fmt: skip
        response = await e.client.get(path, headers={"Accept": accept})
        assert response.status_code == 200, accept
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type == {"stream": "text/event-stream", "page": "application/json"}[expected], accept


async def test_every_response_has_the_callers_request_id_or_one_of_ours(e: Any) -> None:
    mine = {"X-Request-Id": "trace-me:1"}
    for method, path, body in (
        ("GET", "/health", None), ("GET", "/nothing", None), ("PUT", "/chat", None), ("POST", "/chat", {"message": 1}),
        ("POST", "/chat/stream", {"message": "a"}), ("POST", "/chat", {"message": "a"}), ("GET", "/openapi.json", None),
        ("OPTIONS", "/chat", None),
    ):  # fmt: skip
        response = await e.client.request(method, path, json=body, headers=mine)
        assert response.headers.get_list("x-request-id") == ["trace-me:1"]
    given: tuple[dict[str, str], ...] = ({}, {"X-Request-Id": "no good"})
    ours = [(await e.client.get("/health", headers=headers)).headers["x-request-id"] for headers in given]
    assert len({*ours, "no good"}) == 3


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


class Losing:
    """Stores whose database can be taken away."""

    def __init__(self) -> None:
        self.lost = False

    def __call__(self, store: Any) -> Any:
        return _Lost(self, store)


class _Lost:
    def __init__(self, losing: Losing, store: Any) -> None:
        self._losing = losing
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if self._losing.lost:
            raise DatabaseUnavailable("PostgreSQL cannot be reached: refused")
        return getattr(self._store, name)


async def test_a_lost_database_is_not_a_fault(edge: Any) -> None:
    losing = Losing()
    async with edge(ScriptedProvider(says("fine again")), through=losing) as e:
        losing.lost = True
        for method, path, body in (
            ("POST", "/chat", {"message": "a"}), ("POST", "/chat/stream", {"message": "a"}), ("GET", "/v1/runs", None),
            ("GET", "/history/s", None), ("GET", "/v1/runs/r/events", None), ("POST", "/reset", {"session_id": "s"}),
            ("POST", "/v1/runs", {"agent": "helper", "input": 1}), ("POST", "/v1/runs/r/cancel", None),
            ("POST", "/v1/runs/r/resume", None), ("POST", "/v1/runs/r/messages", {"content": "x"}),
            ("GET", "/v1/approvals", None), ("GET", "/v1/approvals/a", None), ("POST", "/v1/approvals/a", {"decision": "deny"}),
            ("POST", "/chat/async", {"message": "a"}), ("POST", "/chat/async", {"items": [{"message": "a"}] * 100}),
            ("DELETE", "/v1/sessions/s", None), ("GET", "/v1/sessions/s/state", None), ("POST", "/v1/sessions/s/fork", {}),
            ("PUT", "/v1/sessions/s/state", {"state": {}}),
        ):  # fmt: skip
            for headers in ({}, {"Idempotency-Key": "k"}) if method != "GET" else ({},):
                response = await e.client.request(method, path, json=body, headers=headers)
                problem = check(response, 503, "not_ready")
                assert "database" in problem["detail"]
                assert "PostgreSQL" not in problem["detail"]
                assert response.headers["retry-after"] == "1"
        losing.lost = False
        assert (await e.ask())["response"] == "fine again"
