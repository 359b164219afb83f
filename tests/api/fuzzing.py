"""Requests that schemathesis makes of the published description, sent to a process in which there is something to find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from app.main import describe
from tests.api.edge import Edge
from tests.batches.world import tagger
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

AnyCase = Case[Any]
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(describe())))
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]  # it is valid
AGENTS = (react(), tagger())
SESSION = "s"


def provider(answers: int = 20_000) -> ScriptedProvider:
    """One whose first answer is a call that waits for a person; all others are short."""
    return ScriptedProvider(says("", ("c1", "risky", "{}")), *[says("ok")] * answers)


async def furnish(e: Edge) -> dict[str, str]:
    """There is one of everything. The ids, by the name of their parameter."""
    waiting = await e.client.post("/chat", json={"message": "a", "session_id": SESSION + "2"})
    assert waiting.status_code == 202, waiting.text
    run = await e.ask(session_id=SESSION)
    items = [{"custom_id": "1", "input": "a"}]
    batch = await e.client.post("/v1/batches", json={"agent": "tagger", "items": items})
    return {
        "kind": "agent",
        "name": "tagger",
        "session_id": SESSION,
        "run_id": run["run_id"],
        "approval_id": waiting.json()["approvals"][0]["id"],
        "batch_id": batch.json()["id"],
    }


def covering(operation: Any) -> Iterator[AnyCase]:
    """Every boundary of every parameter and field, on its right side and on its wrong one; the same ones each time."""
    return SCHEMA.iter_coverage_cases(
        operation=operation,
        generation_modes=list(GenerationMode),
        generation_config=SCHEMA.config.generation_for(operation=operation),
    )


def generated(operation: Any, mode: GenerationMode, count: int, *, random: bool = False) -> list[AnyCase]:
    """So many requests by chance, which is the same one each time unless `random`."""
    found: list[AnyCase] = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        derandomize=not random,
        suppress_health_check=list(HealthCheck),
    )
    def collect(case: AnyCase) -> None:
        found.append(case)

    with suppress(Unsatisfiable):  # of an operation without input there is nothing wrong to ask
        collect()
    return found


def fresh(case: AnyCase, number: int) -> None:
    """Its Idempotency-Key, where it has one that is valid, is nobody else's."""
    for name, value in list(case.headers.items()):
        if name.lower() == "idempotency-key" and 0 < len(str(value)) < 200 and str(value).isascii():
            case.headers[name] = f"{value}{number}"


async def send(client: httpx2.AsyncClient, case: AnyCase, known: dict[str, str]) -> httpx2.Response:
    """The answer to the case; parameters of the path that are `known` are those."""
    for name in known.keys() & set(case.path_parameters or ()):
        case.path_parameters[name] = known[name]
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://steadyhand")).prepare()
    headers = [(_latin(name), _latin(value)) for name, value in prepared.headers.items()]
    body: Any = prepared.body
    content = body.encode() if isinstance(body, str) else body
    return await client.request(str(prepared.method), str(prepared.url), content=content, headers=headers)


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")


def validate(case: AnyCase, response: httpx2.Response, known: dict[str, str]) -> None:
    """The answer is one of those that the description has. Raises a group of what is wrong.

    That a request is refused which its schema allows is not: what cursors there are and what steps an agent has, no schema tells.
    An event stream is described as text. Who asks for an answer within no time at all gets a 504, which is documented.
    """
    excluded: list[Any] = [positive_data_acceptance, ignored_auth]  # there are no keys, so everybody may
    several = any(isinstance(value, list | dict) for value in (case.query or {}).values())
    replaced = bool(known.keys() & set(case.path_parameters or ()))
    if several or replaced or "Authorization" in case.headers:
        # Of a parameter that is given several times the last counts; those that we replaced are right; no credential is looked at.
        excluded.append(negative_data_rejection)
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        excluded.append(response_schema_conformance)
    if response.status_code == 504 and response.json()["code"] == "timeout":
        excluded.append(not_a_server_error)
    case.validate_response(response, excluded_checks=excluded)
