"""Who may decide on which call, what their word is good for, and what is kept of it."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain.approvals import digest
from app.storage.postgres.pool import open_pool
from tests.api.deciding import APPROVE, DEADLY, DENY, HELPER, RISKY, audit, decided, edges, events, who
from tests.api.problems import check
from tests.api.test_approvals import waiting
from tests.api.test_resources import pages
from tests.scripted import ScriptedProvider, says


async def test_what_a_person_is_told(edge: Any) -> None:
    read = says("Let me look.", ("r1", "echo", '{"x": 1}'), ("r2", "echo", '{"x": 2}'))
    async with edge(ScriptedProvider(read, says("There."), read, RISKY), HELPER) as e:
        await e.ask(session_id="s")
        approval = await waiting(e, session_id="s")
        assert (approval["tool"], approval["arguments"]) == ("risky", {"n": 1})
        assert approval["digest"] == digest("risky", '{"n": 1}')
        grounds = approval["grounds"]
        assert grounds["auto_approve"] == "low"
        assert "risk of this call is high" in grounds["reason"]
        assert [source["tool"] for source in grounds["results"]] == ["echo"] * 4
        assert [source["call_id"] for source in grounds["results"]][:2] == ["r1", "r2"]
        assert grounds["more"] == 0
        (created,) = await events(e, approval["run_id"], "run.created")
        assert grounds["message_id"] == created["message_id"]
        (asked,) = await events(e, approval["run_id"], "approval.requested")
        assert (asked["digest"], asked["approval"]["grounds"]) == (approval["digest"], grounds)


async def test_twice_is_once(edge: Any) -> None:
    boss = who("approvals", "admin", actor="key:boss")
    async with edges(edge, boss, say=[RISKY, says("done")]) as (e,):
        approval = await waiting(e)
        first = await decided(e, approval, APPROVE | {"comment": "fine"})
        assert (first.status_code, first.json()["resolved_actor"], first.json()["resolved_by"]) == (
            200,
            "key:boss",
            None,
        )
        await e.became(approval["run_id"], "succeeded")
        again = await decided(e, approval, APPROVE)
        assert (again.status_code, again.json()) == (200, first.json())
        check(await decided(e, approval, DENY), 409, "approval_resolved")
        check(await decided(e, approval, APPROVE | {"arguments": {"n": 2}}), 409, "approval_resolved")
        assert [call.arguments for call in e.toolbox.calls] == ['{"n": 1}']
        assert len(await events(e, approval["run_id"], "approval.resolved")) == 1
        assert [entry["action"] for entry in await audit(e)] == ["approval.approved"]


async def test_after_its_time(edge: Any, database: str) -> None:
    async with edges(edge, who("approvals", "admin"), say=[RISKY, says("so be it")]) as (e,):
        approval = await waiting(e)
        async with open_pool(database) as opened:
            await opened.execute("UPDATE approvals SET expires_at = clock_timestamp() - interval '1 second'")
        check(await decided(e, approval, APPROVE), 409, "approval_resolved")
        assert e.toolbox.calls == []
        await e.runs.housekeeping.round()
        assert (await e.became(approval["run_id"], "succeeded"))["output"] == "so be it"
        check(await decided(e, approval, APPROVE), 409, "approval_resolved")
        now = (await e.client.get(f"/v1/approvals/{approval['id']}")).json()
        assert (now["status"], now["resolved_by"], now["resolved_actor"]) == ("expired", None, "system")
        assert e.toolbox.calls == []
        (entry,) = await audit(e)
        assert (entry["actor"], entry["action"], entry["target"]) == ("system", "approval.expired", approval["id"])


async def test_with_other_arguments(edge: Any) -> None:
    asked = says("", ("c1", "risky", '{"n": 1, "to": ["ann", "bob"]}'))
    async with edges(edge, who("approvals", "admin", user="eve"), say=[asked, says("done")]) as (e,):
        approval = await waiting(e)
        for wrong in ({"n": "one"}, {"m": 1}, {"n": 1, "to": "ann"}):
            check(await decided(e, approval, APPROVE | {"arguments": wrong}), 422, "validation_error")
        edited = {"n": 2, "to": ["ann"]}
        response = await decided(e, approval, APPROVE | {"arguments": edited})
        told = response.json()
        difference = [{"path": "/n", "old": 1, "new": 2}, {"path": "/to/1", "old": "bob"}]
        assert (told["arguments"], told["edited"], told["changes"]) == (approval["arguments"], edited, difference)
        await e.became(approval["run_id"], "succeeded")
        assert [msgspec.json.decode(call.arguments) for call in e.toolbox.calls] == [edited]
        (event,) = await events(e, approval["run_id"], "approval.resolved")
        assert (event["changes"], event["by"], event["actor"]) == (difference, "eve", "key:k1")
        bound = digest("risky", e.toolbox.calls[0].arguments)
        assert event["digest"] == bound != approval["digest"]
        (entry,) = await audit(e)
        assert entry["detail"] == {
            "run_id": approval["run_id"],
            "tool": "risky",
            "risk": "high",
            "digest": bound,
            "edited": True,
        }
        assert "bob" not in msgspec.json.encode(entry).decode()
        assert (await decided(e, approval, APPROVE | {"arguments": edited})).json() == told
        check(await decided(e, approval, APPROVE), 409, "approval_resolved")


async def test_the_same_arguments_are_no_edit(edge: Any) -> None:
    async with edges(edge, who("approvals", "admin"), say=[RISKY, says("done"), RISKY, says("done")]) as (e,):
        approval = await waiting(e)
        told = (await decided(e, approval, APPROVE | {"arguments": {"n": 1}})).json()
        assert (told["edited"], told["changes"]) == (None, [])
        await e.became(approval["run_id"], "succeeded")
        assert [call.arguments for call in e.toolbox.calls] == ['{"n": 1}']
        assert "changed the arguments" not in e.provider.requests[1].messages[-1].content
        other = await waiting(e)
        check(await decided(e, other, APPROVE | {"arguments": {"n": True}}), 422, "validation_error")


async def test_a_word_for_one_call_is_none_for_the_next(edge: Any) -> None:
    other, same = says("", ("c2", "risky", '{"n": 2}')), says("", ("c3", "risky", '{"n": 1}'))
    async with edges(edge, who("approvals", "admin"), say=[RISKY, other, same, says("done")]) as (e,):
        first = await waiting(e)
        run_id = first["run_id"]
        assert (await decided(e, first, APPROVE)).status_code == 200
        for arguments in ({"n": 2}, {"n": 1}):
            while not (asked := (await e.client.get(f"/v1/approvals?status=pending&run_id={run_id}")).json()["data"]):
                pass
            assert asked[0]["arguments"] == arguments
            ran = [call.arguments for call in e.toolbox.calls]
            assert len(ran) == (1 if arguments == {"n": 2} else 2)
            assert (await decided(e, first, APPROVE)).status_code == 200  # once more the old one: it opens nothing
            assert [call.arguments for call in e.toolbox.calls] == ran
            assert (await e.run(run_id))["status"] == "waiting"
            await decided(e, asked[0], APPROVE)
        await e.became(run_id, "succeeded")
        assert [call.arguments for call in e.toolbox.calls] == ['{"n": 1}', '{"n": 2}', '{"n": 1}']
        assert len({entry["target"] for entry in await audit(e)}) == 3


async def test_what_is_withdrawn_is_written_down(edge: Any) -> None:
    async with edges(edge, who("approvals", "admin", user="eve"), say=[RISKY]) as (e,):
        approval = await waiting(e)
        assert (await e.client.post(f"/v1/runs/{approval['run_id']}/cancel")).status_code in (200, 202)
        await e.became(approval["run_id"], "cancelled")
        check(await decided(e, approval, APPROVE), 409, "approval_resolved")
        (entry,) = await audit(e)
        assert (entry["action"], entry["actor"], entry["user_id"]) == ("approval.cancelled", "system", "eve")
        assert entry["detail"]["digest"] == approval["digest"]
        now = (await e.client.get(f"/v1/approvals/{approval['id']}")).json()
        assert (now["status"], now["resolved_by"], now["resolved_actor"]) == ("cancelled", "eve", "system")


async def test_what_an_older_release_asked_can_be_decided(edge: Any, database: str) -> None:
    async with edges(edge, who("approvals", "admin"), say=[RISKY, says("done")]) as (e,):
        approval = await waiting(e)
        async with open_pool(database) as opened:
            await opened.execute("UPDATE approvals SET digest = NULL, grounds = NULL")
        response = await decided(e, approval, APPROVE)
        assert (response.status_code, response.json()["digest"], response.json()["grounds"]) == (200, None, None)
        await e.became(approval["run_id"], "succeeded")
        assert [call.arguments for call in e.toolbox.calls] == ['{"n": 1}']
        (entry,) = await audit(e)
        assert entry["detail"]["digest"] is None


async def test_the_inbox_by_what_people_look_for(edge: Any) -> None:
    other = msgspec.structs.replace(HELPER, name="other")
    async with edge(ScriptedProvider(RISKY, DEADLY, RISKY), HELPER, other) as e:
        made = [await waiting(e), await waiting(e), await waiting(e, agent="other")]
        for query, places in (
            ("risk=critical", [1]), ("risk=high", [2, 0]), ("tool=deadly", [1]), ("agent=other", [2]), ("agent=nobody", []),
            ("agent=helper&risk=high&status=pending", [0]), ("tool=risky&agent=other&limit=1", [2]),
        ):  # fmt: skip
            found = (await e.client.get(f"/v1/approvals?{query}")).json()["data"]
            assert [approval["id"] for approval in found] == [made[place]["id"] for place in places], query
        check(await e.client.get("/v1/approvals?risk=huge"), 422, "validation_error")
        check(await e.client.get("/v1/approvals?tool=%00"), 422, "validation_error")


async def test_the_audit_log_in_pages(edge: Any) -> None:
    admin, plain, far = who("admin", user="root"), who("approvals", "runs"), who("admin", tenant="far")
    async with edges(edge, admin, plain, far, say=[*[RISKY] * 5, *[says("done")] * 5]) as (e, other, foreign):
        made = [await waiting(e) for _ in range(5)]
        for number, approval in enumerate(made):
            assert (await decided(e, approval, DENY if number % 2 else APPROVE)).status_code == 200
        listed = await pages(e.client, "/v1/audit")
        assert [entry["target"] for entry in listed] == [approval["id"] for approval in reversed(made)]
        assert {entry["user_id"] for entry in listed} == {"root"}
        denied = await pages(e.client, "/v1/audit", action="approval.denied")
        assert [entry["target"] for entry in denied] == [made[3]["id"], made[1]["id"]]
        assert [entry["action"] for entry in await audit(e, target=made[0]["id"])] == ["approval.approved"]
        check(await other.client.get("/v1/audit"), 403, "forbidden")
        assert await audit(foreign) == []
        for query, status, code in (
            ("cursor=x", 400, "invalid_cursor"), ("cursor=%00", 400, "invalid_cursor"), ("cursor=MA", 400, "invalid_cursor"),
            ("limit=0", 422, "validation_error"), ("action=%00", 422, "validation_error"),
        ):  # fmt: skip
            check(await e.client.get(f"/v1/audit?{query}"), status, code)


async def test_how_long_people_are_waited_for(edge: Any) -> None:
    async with edge(ScriptedProvider(RISKY, RISKY, says("done")), HELPER) as e:
        first, _ = await waiting(e), await waiting(e)
        await e.runs.approvals.look()
        assert (await decided(e, first, APPROVE)).status_code == 200
        await e.runs.approvals.look()
        notes = e.notes
        assert [waits for waits, _ in notes.pending] == [2, 1]
        assert all(0 < age < 60 for _, age in notes.pending)
        assert notes.decisions == [("high", "approved")]
