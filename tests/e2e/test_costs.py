"""What a run cost, from the provider's wire to the answer, the run, its steps, its events and the metrics."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import fails, says
from tests.waiting import until

PRICED = 'agent_llm_cost_usd_total{model="model-1",provider="responses"}'
UNPRICED = "agent_llm_unpriced_calls_total"


async def metric(service: Service, series: str) -> float:
    page = (await service.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(series + " "))


async def seen(service: Service, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The run, its model steps, and what its journal says of usage."""
    run = await service.json(f"/v1/runs/{run_id}")
    steps = (await service.json(f"/v1/runs/{run_id}/steps"))["data"]
    events = await service.events(run_id)
    (end,) = [event["data"] for event in events if event["event"] == "run.finished"]
    assert end["cost_usd"] == run["cost_usd"]
    used = [event["data"] for event in events if event["event"] == "usage.recorded"]
    return run, [step for step in steps if step["kind"] == "model"], used


async def test_every_attempt_is_priced_and_the_run_is_their_sum(service: Service, provider: StandIn) -> None:
    before = await metric(service, PRICED)
    call = [("one", "calculator", '{"expression": "6 * 7"}')]
    provider.script("What does 6 * 7 cost?", says(calls=call, usage=(100, 7)), says("42.", usage=(120, 3)))
    answered = await service.chat("What does 6 * 7 cost?", agent="responses")
    # 100 x 2 + 7 x 10.1 = 270.7 and 120 x 2 + 3 x 10.1 = 270.3 millionths
    assert answered["metadata"]["cost_usd"] == 0.000541
    run, steps, used = await seen(service, answered["run_id"])
    assert run["cost_usd"] == 0.000541
    assert [step["cost_usd"] for step in steps] == [0.0002707, 0.0002703]
    assert [(one["cost_usd"], one["basis"]) for one in used] == [(0.0002707, "provider"), (0.0002703, "provider")]
    assert await metric(service, PRICED) - before == pytest.approx(0.000541, rel=1e-9)


async def test_a_run_that_waits_has_its_cost_so_far_and_keeps_it(service: Service, provider: StandIn) -> None:
    call = [("one", "calculator", '{"expression": "6 * 7"}')]
    provider.script("Wait in between", says(calls=call, usage=(100, 7)), says("42.", usage=(120, 3)))
    body = {"agent": "responses", "input": "Wait in between", "stop_after": "model"}
    waiting = (await service.post("/v1/runs", body)).json()
    assert (waiting["status"], waiting["cost_usd"]) == ("waiting", 0.0002707)
    resumed = await service.post(f"/v1/runs/{waiting['id']}/resume", {})
    assert resumed.status_code in (200, 201, 202), resumed.text

    async def ended() -> bool:
        return bool((await service.json(f"/v1/runs/{waiting['id']}"))["status"] == "succeeded")

    await until(ended)
    run, steps, _ = await seen(service, waiting["id"])
    assert run["cost_usd"] == 0.000541
    assert [step["cost_usd"] for step in steps] == [0.0002707, 0.0002703]


async def test_a_cost_that_is_not_known_is_null_and_counted(service: Service, provider: StandIn) -> None:
    before = await metric(service, UNPRICED)
    provider.script("What do you cost?", says("Nobody knows."))
    answered = await service.chat("What do you cost?", agent="chat")
    assert answered["metadata"]["cost_usd"] is None
    run, _, (used,) = await seen(service, answered["run_id"])
    assert run["cost_usd"] is None
    assert (used["cost_usd"], used["basis"], used["usage"]["input_tokens"]) == (None, "provider", 10)
    assert await metric(service, UNPRICED) - before == 1


async def test_an_attempt_that_was_refused_cost_nothing(service: Service, provider: StandIn) -> None:
    before = await metric(service, UNPRICED)
    provider.script("And refused?", fails(400))
    answered = await service.post("/chat", {"message": "And refused?", "agent": "responses"})
    assert answered.status_code == 502, answered.text
    run, _, (used,) = await seen(service, answered.json()["run_id"])
    assert (used["usage"], used["cost_usd"], used["basis"]) == (None, 0, "provider")
    assert run["cost_usd"] == 0
    assert await metric(service, UNPRICED) == before
