"""Calls that wait for a word, and those who give it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from app.domain.principals import Principal, Scope
from tests.api.edge import Edge
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says, tool_spec

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "to": {"type": "array"}},
    "additionalProperties": False,
}


HELPER = react(
    tools=(
        tool_spec("echo"),
        tool_spec("risky", risk="high", effect="write", schema=SCHEMA),
        tool_spec("deadly", risk="critical", effect="write", schema=SCHEMA),
    )
)
RISKY, DEADLY = says("", ("c1", "risky", '{"n": 1}')), says("", ("c1", "deadly", '{"n": 1}'))
APPROVE, DENY = {"decision": "approve"}, {"decision": "deny"}


def who(*scopes: Scope, user: str | None = None, actor: str = "key:k1", tenant: str = "default") -> Principal:
    return Principal(tenant=tenant, user=user, scopes=frozenset(scopes), actor=actor)


@asynccontextmanager
async def edges(edge: Any, *principals: Principal, say: Sequence[Any], **more: Any) -> AsyncIterator[list[Edge]]:
    """A process that runs HELPER, and others on its database that only answer: one for each further principal."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(edge(ScriptedProvider(*say), HELPER, principal=principals[0], **more))
        others = [
            await stack.enter_async_context(edge(ScriptedProvider(), HELPER, principal=one, concurrency=0, **more))
            for one in principals[1:]
        ]
        yield [first, *others]


async def decided(e: Edge, approval: Any, body: Any) -> Any:
    return await e.client.post(f"/v1/approvals/{approval['id']}", json=body)


async def audit(e: Edge, **query: str) -> list[Any]:
    response = await e.client.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    return response.json()["data"]  # type: ignore[no-any-return]


async def events(e: Edge, run_id: str, name: str) -> list[Any]:
    response = await e.client.get(f"/v1/runs/{run_id}/events", headers={"Accept": "application/json"})
    return [event["data"] for event in response.json()["data"] if event["event"] == name]
