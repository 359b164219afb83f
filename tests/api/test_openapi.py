"""The published description is valid, whole, and true: what it says is what the service does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api.bodies import ChatRequest
from app.api.decoding import decode_body
from app.api.examples import ANSWERS, REQUESTS
from app.api.problems import STATUS
from app.domain.errors import RequestError
from app.main import describe
from tests.scripted import ScriptedProvider, says

DOCUMENT = describe()
WITHOUT_OWN_ERRORS = {"health", "healthz", "readiness", "metrics_page"}
BODY_STATUSES = {"400", "404", "408", "413", "415", "422", "500", "503"}
RUN_STATUSES = BODY_STATUSES | {"403", "429", "409", "502", "504"}
GOOD = {"200", "201", "202", "204"}
STATUSES = {
    "list_agents": {"500", "503"},
    "get_agent": {"404", "500", "503"},
    "list_models": {"500", "503"},
    "list_prompts": {"500", "503"},
    "run_agent": RUN_STATUSES,
    "chat": RUN_STATUSES,
    "question": RUN_STATUSES,
    "stream_agent": BODY_STATUSES | {"403", "429"},
    "stream_chat": BODY_STATUSES | {"403", "429"},
    "history": {"404", "500", "503"},
    "reset": BODY_STATUSES,
    "chat_async": BODY_STATUSES | {"403", "429"},
    "create_run": BODY_STATUSES | {"403", "409", "429"},
    "resume_run": BODY_STATUSES | {"403", "409", "429"},
    "cancel_run": BODY_STATUSES,
    "steer_run": BODY_STATUSES | {"409"},
    "get_callbacks": {"404", "500", "503"},
    "replay_callback": {"404", "409", "422", "500", "503"},
    "create_batch": BODY_STATUSES | {"403", "429"},
    "list_batches": {"400", "422", "500", "503"},
    "get_batch": {"404", "500", "503"},
    "get_batch_results": {"400", "404", "422", "500", "503"},
    "cancel_batch": {"404", "422", "500", "503"},
    "drop_answers": {"400", "408", "413", "422", "500", "503"},
    "list_controls": {"500", "503"},
    "disable_control": BODY_STATUSES,
    "enable_control": {"404", "422", "500", "503"},
    "list_approvals": {"400", "422", "500", "503"},
    "get_approval": {"404", "500", "503"},
    "decide": BODY_STATUSES | {"403", "409"},
    "list_audit": {"400", "403", "422", "500", "503"},
    "list_runs": {"400", "422", "500", "503"},
    "get_run": {"404", "500", "503"},
    "get_steps": {"404", "500", "503"},
    "get_events": {"400", "404", "422", "429", "500", "503"},
    "get_usage": {"422", "500", "503"},
    "list_sessions": {"400", "422", "500", "503"},
    "get_session": {"404", "500", "503"},
    "list_messages": {"400", "404", "422", "500", "503"},
    "delete_session": {"404", "422", "500", "503"},
    "get_state": {"404", "500", "503"},
    "put_state": BODY_STATUSES | {"409"},
    "fork_session": BODY_STATUSES | {"409"},
    "health": set(),
    "healthz": set(),
    "readiness": {"503"},
    "metrics_page": set(),
}

GOOD_STATUSES = {
    "run_agent": {"200", "202"}, "chat": {"200", "202"}, "question": {"200", "202"}, "reset": {"204"}, "chat_async": {"202"},
    "create_run": {"201", "202"}, "resume_run": {"201", "202"}, "cancel_run": {"200", "202"}, "steer_run": {"202"},
    "replay_callback": {"202"}, "create_batch": {"202"}, "cancel_batch": {"200", "202"}, "delete_session": {"204"}, "enable_control": {"204"}, "fork_session": {"201"},
}  # fmt: skip
"""Where that is more than 200."""
SILENT = {"reset", "delete_session", "enable_control"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def refusals(name: str) -> set[str]:
    """How those are refused who have no key, or none for it."""
    if name in WITHOUT_OWN_ERRORS:
        return {"401"} if name == "metrics_page" else set()
    return {"401"} if name in {"list_agents", "get_agent", "list_models", "list_prompts"} else {"401", "403"}


def matches(example: Any, schema: dict[str, Any]) -> None:
    whole = {"$ref": "#/wanted", "wanted": schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(example)


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT))).validate()
    assert DOCUMENT["info"]["description"]
    assert DOCUMENT["security"] == [{"bearer": []}, {"api_key": []}]


def test_every_operation_says_what_it_is() -> None:
    tags = {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}
    ids = []
    for _, _, operation in operations():
        ids.append(operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] == "path" or parameter["description"], (ids[-1], parameter["name"])
    assert len(ids) == len(set(ids))
    assert set(ids) == set(STATUSES)


def test_every_status_that_occurs_is_there_with_its_problems() -> None:
    for _, _, operation in operations():
        name, responses = operation["operationId"], operation["responses"]
        assert set(responses) & GOOD == GOOD_STATUSES.get(name, {"200"}), name
        statuses = STATUSES[name] | refusals(name)
        assert set(responses) - GOOD == statuses, name
        for status in statuses - ({"503"} if name == "readiness" else set()):
            content = responses[status]["content"]
            assert set(content) == {"application/problem+json"}
            told = content["application/problem+json"]
            assert told["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert told["examples"]
            for code, example in told["examples"].items():
                assert STATUS[code] == example["value"]["status"] == int(status)
                assert example["summary"]
                matches(example["value"], told["schema"])


def test_everything_has_an_example_that_is_true() -> None:
    for _, _, operation in operations():
        name = operation["operationId"]
        if body := operation.get("requestBody"):
            described = body["content"]["application/json"]
            assert described["example"] == REQUESTS[name]
            matches(described["example"], described["schema"])
            assert body["required"] == (name not in {"cancel_run", "resume_run", "fork_session", "disable_control"}), (
                name
            )
        for status in set(operation["responses"]) & GOOD:
            content = operation["responses"][status].get("content", {})
            assert content or name in SILENT
            for media_type, described in content.items():
                if media_type == "text/event-stream":
                    for example in described["examples"].values():
                        assert example["value"].startswith("retry: 1000\n\nid: 1\nevent: ")
                        assert example["value"].endswith("\n\n")
                else:
                    matches(described["example"], described["schema"])
    streams = {"stream_chat", "stream_agent"}
    assert set(ANSWERS) == set(STATUSES) - streams - SILENT


def test_whatever_changes_something_may_have_a_key() -> None:
    for method, _, operation in operations():
        named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "header"}
        assert ("Idempotency-Key" in named) == (method != "get"), operation["operationId"]
        if method != "get":
            assert (
                "idempotency_key_reused"
                in operation["responses"]["422"]["content"]["application/problem+json"]["examples"]
            )


def test_the_schemas_of_bodies_are_those_that_are_enforced() -> None:
    schema = DOCUMENT["components"]["schemas"]["ChatRequest"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["message"]
    for body in (
        {"message": ""},
        {"message": "a", "timeout": 0},
        {"message": "a", "x": 1},
        {"message": "a", "tags": {"a": 1}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            matches(body, schema)
        with pytest.raises(RequestError):
            decode_body(json.dumps(body).encode(), ChatRequest)


async def test_real_answers_are_as_described(edge: Any) -> None:
    by_id = {operation["operationId"]: operation for _, _, operation in operations()}
    turn = (says("", ("c", "echo", '{"a":1}')), says("ok"))
    async with edge(ScriptedProvider(*turn * 3)) as e:
        answer = await e.ask(session_id="s", include_steps=True)
        run = answer["run_id"]
        answers = {
            "list_agents": await e.client.get("/agents"),
            "get_agent": await e.client.get("/agents/helper"),
            "run_agent": await e.client.post("/agents/helper", json=REQUESTS["run_agent"]),
            "question": await e.client.post("/agent", json=REQUESTS["question"]),
            "history": await e.client.get("/history/s"),
            "list_runs": await e.client.get("/v1/runs"),
            "get_run": await e.client.get(f"/v1/runs/{run}"),
            "get_steps": await e.client.get(f"/v1/runs/{run}/steps"),
            "get_events": await e.client.get(f"/v1/runs/{run}/events", headers={"Accept": "application/json"}),
            "list_sessions": await e.client.get("/v1/sessions"),
            "get_session": await e.client.get("/v1/sessions/s"),
            "list_messages": await e.client.get("/v1/sessions/s/messages"),
            "health": await e.client.get("/health"),
            "healthz": await e.client.get("/healthz"),
            "readiness": await e.client.get("/readiness"),
        }
        for name, response in answers.items():
            assert response.status_code == 200, response.text
            matches(response.json(), by_id[name]["responses"]["200"]["content"]["application/json"]["schema"])
        matches(answer, by_id["chat"]["responses"]["200"]["content"]["application/json"]["schema"])
        problem = await e.client.post("/chat", json={"message": 1})
        matches(problem.json(), {"$ref": "#/components/schemas/Problem"})
        served = await e.client.get("/openapi.json")
        assert served.json() == json.loads(json.dumps(DOCUMENT))
        page = await e.client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        for outside in ("https://", "//cdn", "@import"):
            assert f'src="{outside}' not in page.text
            assert f'href="{outside}' not in page.text


async def test_real_answers_of_what_waits_and_of_sessions_are_as_described(edge: Any) -> None:
    by_id = {operation["operationId"]: operation for _, _, operation in operations()}
    risky, ok = says("", ("c", "risky", "{}")), says("ok")
    async with edge(ScriptedProvider(risky, risky, ok, ok, ok, ok, ok)) as e:
        post = e.client.post
        waiting = await post("/chat", json={"message": "x", "session_id": "s"})
        approval = waiting.json()["approvals"][0]["id"]
        run = await post("/v1/runs", json={"agent": "helper", "input": 1})
        answers = [
            ("chat", waiting),
            ("create_run", run),
            ("list_approvals", await e.client.get("/v1/approvals")),
            ("get_approval", await e.client.get(f"/v1/approvals/{approval}")),
            ("steer_run", await post(f"/v1/runs/{run.json()['id']}/messages", json=REQUESTS["steer_run"])),
            ("decide", await post(f"/v1/approvals/{approval}", json=REQUESTS["decide"])),
            ("cancel_run", await post(f"/v1/runs/{run.json()['id']}/cancel", json=REQUESTS["cancel_run"])),
            ("cancel_run", await post(f"/v1/runs/{run.json()['id']}/cancel", json=REQUESTS["cancel_run"])),
            ("chat_async", await post("/chat/async", json=REQUESTS["chat_async"] | {"session_id": "t"})),
            (
                "chat_async",
                await post("/chat/async", json={"items": [{"message": "x"}, {"message": "x", "agent": "no"}]}),
            ),
            ("create_run", await post("/v1/runs", json=REQUESTS["create_run"] | {"agent": "helper"})),
            ("get_state", await e.client.get("/v1/sessions/s/state")),
            ("put_state", await e.client.put("/v1/sessions/s/state", json={"state": {}, "version": 0})),
            ("fork_session", await post("/v1/sessions/s/fork")),
            ("list_audit", await e.client.get("/v1/audit")),
        ]
        task = answers[8][1].json()["task_id"]
        answers.append(("get_callbacks", await e.client.get(f"/v1/runs/{task}/callbacks")))
        statuses = []
        for name, response in answers:
            described = by_id[name]["responses"][str(response.status_code)]
            matches(response.json(), described["content"]["application/json"]["schema"])
            assert {"location", "etag"} & set(response.headers) == {
                header.lower() for header in described.get("headers", {}) if header in ("Location", "ETag")
            } or isinstance(response.json().get("tasks"), list)
            statuses.append(response.status_code)
        assert statuses == [202, 201, 200, 200, 202, 200, 202, 200, 202, 202, 202, 200, 200, 201, 200, 200]
