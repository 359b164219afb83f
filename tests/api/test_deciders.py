"""Who may decide on a call: scopes, users, and nobody on what is done for themselves."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.principals import Principal
from tests.api.deciding import APPROVE, DEADLY, DENY, RISKY, audit, decided, edges, who
from tests.api.problems import check
from tests.api.test_approvals import waiting
from tests.scripted import says


@pytest.mark.parametrize(
    ("scopes", "approves", "approves_critical", "denies_critical"),
    [
        ((), False, False, False),
        (("runs",), False, False, False),
        (("approvals",), True, False, True),
        (("approvals.critical",), False, False, False),
        (("approvals", "approvals.critical"), True, True, True),
        (("admin",), True, True, True),
    ],
)
async def test_by_whom(edge: Any, scopes: Any, approves: bool, approves_critical: bool, denies_critical: bool) -> None:
    admin = who("admin", actor="key:root")
    async with edges(edge, admin, who(*scopes), say=[RISKY, DEADLY, DEADLY, *[says("done")] * 3], max_body=10_000) as (
        e,
        other,
    ):
        cases = [(APPROVE, approves), (APPROVE, approves_critical), (DENY, denies_critical)]
        made = [await waiting(e) for _ in cases]
        for approval, (body, may) in zip(made, cases, strict=True):
            response = await decided(other, approval, body)
            now = (await e.client.get(f"/v1/approvals/{approval['id']}")).json()
            if may:
                assert (response.status_code, now["resolved_actor"]) == (200, "key:k1")
                await e.became(approval["run_id"], "succeeded")
            else:
                check(response, 403, "forbidden")
                assert (now["status"], (await e.run(approval["run_id"]))["status"]) == ("pending", "waiting")
        written = [entry["target"] for entry in await audit(e)]
        assert written == [a["id"] for a, (_, may) in reversed(list(zip(made, cases, strict=True))) if may]
        assert len(e.toolbox.calls) == approves + approves_critical


async def test_by_somebody_elses_hand(edge: Any) -> None:
    ann = who("runs", "approvals", "approvals.critical", user="ann")
    bob, far = who("approvals", user="bob"), who("approvals", tenant="far")
    async with edges(edge, ann, bob, far, say=[RISKY, says("done")]) as (e, *others):
        approval = await waiting(e)
        for other in others:
            check(await decided(other, approval, APPROVE), 404, "not_found")
            assert (await other.client.get("/v1/approvals")).json()["data"] == []
        assert (await decided(e, approval, APPROVE)).status_code == 200
        await e.became(approval["run_id"], "succeeded")


@pytest.mark.parametrize(
    ("four_eyes", "risky", "deadly"), [(None, 200, 200), ("critical", 200, 403), ("high", 403, 403)]
)
async def test_one_does_not_approve_what_is_done_for_oneself(
    edge: Any, four_eyes: Any, risky: int, deadly: int
) -> None:
    ann = who("runs", "approvals", "approvals.critical", user="ann")
    desk = who("approvals", "approvals.critical", actor="key:desk")
    async with edges(edge, ann, desk, say=[RISKY, DEADLY, *[says("done")] * 2], four_eyes=four_eyes) as (e, other):
        for approval, status in ((await waiting(e), risky), (await waiting(e), deadly)):
            response = await decided(e, approval, APPROVE)
            assert response.status_code == status
            if status == 403:
                check(response, 403, "forbidden")
                assert (await decided(other, approval, APPROVE)).status_code == 200
            await e.became(approval["run_id"], "succeeded")


@pytest.mark.parametrize(
    ("starts", "approves", "for_user", "status"),
    [
        (who("runs", "approvals"), who("approvals"), None, 403),
        (who("runs", "approvals", "act_as"), who("approvals"), "carl", 403),
        (who("admin", user="boss"), who("admin", user="boss"), "carl", 403),
        (who("admin", user="boss"), who("admin", user="boss", actor="key:k2"), "carl", 403),
        (who("admin", user="boss"), who("approvals", actor="key:k2"), "carl", 200),
        (who("runs", "approvals", actor="local"), who("approvals", actor="local"), None, 403),
    ],
    ids=["no user", "act_as", "an admin", "another key of the user", "another key", "no keys"],
)
async def test_one_does_not_approve_what_one_asked_for(
    edge: Any, starts: Principal, approves: Principal, for_user: str | None, status: int
) -> None:
    """On whoever's behalf."""
    desk = who("approvals", actor="key:desk")
    async with edges(edge, starts, approves, desk, say=[RISKY, says("done")], four_eyes="high") as (e, same, other):
        approval = await waiting(e, **({"user_id": for_user} if for_user else {}))
        assert (await decided(same, approval, APPROVE)).status_code == status
        if status == 403:
            assert e.toolbox.calls == []
            assert (await decided(other, approval, APPROVE)).status_code == 200
        await e.became(approval["run_id"], "succeeded")


async def test_one_may_deny_what_is_done_for_oneself(edge: Any) -> None:
    ann = who("runs", "approvals", user="ann")
    async with edges(edge, ann, say=[DEADLY, says("done")], four_eyes="low") as (e,):
        approval = await waiting(e)
        assert (await decided(e, approval, DENY)).status_code == 200
        await e.became(approval["run_id"], "succeeded")
        assert e.toolbox.calls == []
