"""GET /v1/usage, and what is said where a budget has nothing left."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.domain.prices import Price, Rates
from app.domain.principals import Principal
from app.domain.usage import Caps
from tests.api.edge import open_edge
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

PRICE = Price(rates=Rates(input=Decimal(0), output=Decimal(10_000)))
"""A cent a token that is written: an answer costs five."""


async def test_usage_by_groups_and_in_all(database: str) -> None:
    async with open_edge(database, ScriptedProvider(*[says("Hello.")] * 3, price=PRICE)) as opened:
        for user, team in (("ann", "x"), ("ann", "y"), ("bob", "x")):
            body = {"message": "go", "user_id": user, "tags": {"team": team}}
            assert (await opened.client.post("/chat", json=body)).status_code == 200
        report = (await opened.client.get("/v1/usage?group_by=tag:team")).json()
        assert [(g["key"], g["requests"], g["attempts"], g["cost_usd"], g["unpriced"]) for g in report["data"]] == [
            ("x", 2, 2, 0.1, 0),
            ("y", 1, 1, 0.05, 0),
        ]
        total = report["total"]
        assert (total["key"], total["requests"], total["cost_usd"]) == (None, 3, 0.15)
        assert total["usage"] == {
            "input_tokens": 30, "cached_input_tokens": None, "cache_write_tokens": None, "output_tokens": 15,
            "reasoning_tokens": None,
        }  # fmt: skip
        assert total["average"] == {"input_tokens": 10.0, "output_tokens": 5.0, "cost_usd": 0.05}
        (day,) = (await opened.client.get("/v1/usage")).json()["data"]
        assert day["requests"] == 3
        assert (await opened.client.get("/v1/usage?to=2026-01-01")).json()["data"] == []
        assert (await opened.client.get(f"/v1/usage?from={day['key']}T00:00:00Z")).json()["data"] == [day]


async def test_a_user_sees_what_is_that_users(database: str) -> None:
    async with open_edge(database, ScriptedProvider(says("Hello."), price=PRICE)) as opened:
        await opened.client.post("/chat", json={"message": "go", "user_id": "ann"})
    for user, requests in (("ann", 1), ("bob", 0)):
        principal = Principal(tenant="default", user=user)
        async with open_edge(database, ScriptedProvider(), principal=principal) as opened:
            total = (await opened.client.get("/v1/usage?group_by=user")).json()["total"]
            assert (total["requests"], total["cost_usd"]) == (requests, 0.05 if requests else None)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("group_by=colour", "group_by"),
        ("group_by=tag:", "group_by"),
        ("group_by=tag:a%00b", None),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("from=2026-02-01&to=2026-01-01", "to"),
    ],
)
async def test_what_is_no_query_is_refused(database: str, query: str, path: str | None) -> None:
    async with open_edge(database, ScriptedProvider()) as opened:
        answer = await opened.client.get(f"/v1/usage?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        assert [error["path"] for error in answer.json().get("errors", ())] == ([path] if path else [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"message": "go"}),
        ("/chat/stream", {"message": "go"}),
        ("/agent", {"question": "go"}),
        ("/agents/helper", {"input": "go"}),
        ("/v1/runs", {"agent": "helper", "input": "go", "background": True}),
    ],
)
async def test_no_run_begins_without_a_budget(database: str, path: str, body: Any) -> None:
    caps = Caps(tenant=Decimal("0.05"), levels=(Decimal(1),))
    agent = react(max_output_tokens=5)
    async with open_edge(database, ScriptedProvider(says("Hello."), price=PRICE), agent, caps=caps) as opened:
        assert (await opened.client.post("/chat", json={"message": "go"})).status_code == 200
        for key in ("k1", "k1", "k2"):
            answer = await opened.client.post(path, json=body, headers={"Idempotency-Key": key})
            said = answer.json()
            assert (answer.status_code, said["code"], answer.headers["retry-after"]) == (
                429,
                "budget_exhausted",
                "3600",
            )
            assert "-01T00:00:00Z" in said["detail"]
        assert len((await opened.client.get("/v1/runs")).json()["data"]) == 1


async def test_several_messages_at_once_are_each_refused(database: str) -> None:
    caps = Caps(tenant=Decimal(0), levels=(Decimal(1),))
    async with open_edge(database, ScriptedProvider(price=PRICE), caps=caps) as opened:
        answer = await opened.client.post("/chat", json={"message": "go"})
        assert answer.status_code == 200  # there is no counter yet: the call itself is refused
        assert answer.json()["metadata"]["stop_reason"] == "cost_budget"
