"""Calls that wait for a person: approved, denied, edited, expired, decided twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain import events as ev
from app.domain.approvals import ApprovalFilter
from app.domain.errors import RequestError
from app.domain.principals import Principal
from tests.runs.asking import ANN, RISKY, ends, refused, waits
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def test_a_risky_call_waits_for_a_person_and_nothing_else_does(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY, ("c2", "echo", "{}")), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        (asked,) = waiting.approvals
        assert (asked.call_id, asked.name, asked.arguments, asked.risk) == ("c1", "risky", {"n": 1}, "high")
        assert (waiting.stop_reason, waiting.iterations) == ("approval_required", 1)
        assert [call.name for call in p.toolbox.calls] == ["echo"]
        run = await p.service.run(ANN, started.run_id)
        assert (run.status, run.stop_reason) == ("waiting", "approval_required")
        assert p.worker._running == {}
        assert p.leases.held == {}
        (listed,) = await p.approvals.approvals(ANN, ApprovalFilter(status="pending"))
        assert (listed.id, listed.tool, listed.session_id, listed.user_id) == (asked.id, "risky", "s", "ann")
        decided = await p.approvals.decide(ANN, asked.id, "approve", None, "go ahead")
        assert (decided.status, decided.resolved_by, decided.comment) == ("approved", "ann", "go ahead")
        run = await ends(p, started.run_id)
        assert (run.status, run.output) == ("succeeded", "done")
        assert [call.arguments for call in p.toolbox.calls if call.name == "risky"] == ['{"n":1}']
        again = await p.approvals.decide(ANN, asked.id, "approve", None, None)
        assert again.status == "approved"
        assert await refused(p.approvals.decide(ANN, asked.id, "deny", None, None)) == "approval_resolved"
        stranger = Principal(tenant="default", user="bob")
        assert await refused(p.approvals.approval(stranger, asked.id)) == "not_found"


async def test_a_denial_is_told_to_the_model_and_an_edit_is_run_and_told(start_process: Any) -> None:
    edited = ("c2", "risky", '{"n":5}')
    provider = ScriptedProvider(says("", RISKY), says("", edited), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        assert (
            await refused(p.approvals.decide(ANN, waiting.approvals[0].id, "deny", {"n": 2}, None))
            == "validation_error"
        )
        await p.approvals.decide(ANN, waiting.approvals[0].id, "deny", None, None)
        started.feed.resumed()
        waiting = await p.service.result(started)
        assert isinstance(waiting, ev.RunWaiting)
        result = provider.requests[1].messages[-1]
        assert (result.is_error, "decided against" in result.content) == (True, True)
        await p.approvals.decide(ANN, waiting.approvals[0].id, "approve", {"n": 6}, None)
        assert (await ends(p, started.run_id)).status == "succeeded"
        assert [call.arguments for call in p.toolbox.calls] == ['{"n":6}']
        assert 'changed the arguments to {"n":6}' in provider.requests[2].messages[-1].content
        started_events = [e for s in await p.events(started.run_id) if isinstance(e := ev.decode(s), ev.ToolStarted)]
        assert [e.arguments for e in started_events] == [{"n": 1}, {"n": 6}]


async def test_an_approval_is_for_one_call_only(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("", ("c9", "risky", '{"n":1}')), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        first = waiting.approvals[0]
        await p.approvals.decide(ANN, first.id, "approve", None, None)
        await until(lambda: len(provider.requests) == 2)
        second: Any = None
        while second is None:
            second = next(
                iter(await p.approvals.approvals(ANN, ApprovalFilter(status="pending", run_id=started.run_id))), None
            )
        assert (second.call_id, second.id != first.id) == ("c9", True)
        assert len(p.toolbox.calls) == 1
        await p.service.cancel(ANN, started.run_id, "enough")
        assert (await ends(p, started.run_id)).status == "cancelled"
        assert (await p.approvals.approval(ANN, second.id)).status == "cancelled"
        assert await refused(p.approvals.decide(ANN, second.id, "approve", None, None)) == "approval_resolved"


async def test_an_expired_approval_is_a_denial_that_the_model_sees(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("so be it"))
    async with start_process(provider, approval_ttl=0.001) as p:
        started, waiting = await waits(p)
        await until(lambda: datetime.now(UTC) > waiting.approvals[0].expires_at + timedelta(milliseconds=5))
        assert (
            await refused(p.approvals.decide(ANN, waiting.approvals[0].id, "approve", None, None))
            == "approval_resolved"
        )
        await p.housekeeping.round()
        assert (await ends(p, started.run_id)).output == "so be it"
        assert "in time" in provider.requests[1].messages[-1].content
        assert p.toolbox.calls == []
        assert (await p.approvals.approval(ANN, waiting.approvals[0].id)).status == "expired"


async def test_fifty_decisions_at_once_are_one(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        verdicts = ["approve", "deny"] * 25
        calls = [p.approvals.decide(ANN, waiting.approvals[0].id, verdict, None, None) for verdict in verdicts]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, RequestError) for answer in answers) == 25
        await ends(p, started.run_id)
        events = await p.events(started.run_id)
        assert [event.name for event in events].count("approval.resolved") == 1
        assert await p.database.fetchval("SELECT count(*) FROM audit WHERE target = $1", waiting.approvals[0].id) == 1
        assert len(p.notes.decisions) == 1
