"""Runs begun, stopped, steered and resumed as resources."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.errors import ProviderError
from app.domain.principals import Principal
from tests.api.edge import FORBIDDEN
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

RUN = {"agent": "helper", "input": "x"}
CALL = says("", ("c1", "echo", '{"a":1}'))


async def test_a_run_is_answered_when_it_has_ended(edge: Any) -> None:
    async with edge(ScriptedProvider(says("one"), [ProviderError("overloaded", "busy")])) as e:
        body = RUN | {"session_id": "s", "user_id": "ann", "tags": {"a": "b"}, "timeout": 30, "context": {"k": 1}}
        response = await e.client.post("/v1/runs", json=body)
        assert response.status_code == 201
        run = response.json()
        assert response.headers["location"] == f"/v1/runs/{run['id']}"
        assert run == await e.run(run["id"])
        assert (run["status"], run["output"], run["session_id"]) == ("succeeded", "one", "s")
        assert (run["user_id"], run["tags"]) == ("ann", {"a": "b"})
        failed = await e.client.post("/v1/runs", json=RUN)
        assert (failed.status_code, failed.json()["status"]) == (201, "failed")
        assert failed.json()["error"]["code"] == "providers_unavailable"
        assert "idempotency-replayed" not in failed.headers


async def test_a_run_in_the_background_is_answered_at_once(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("done")])) as e:
        response = await e.client.post("/v1/runs", json=RUN | {"background": True})
        assert response.status_code == 202
        run = response.json()
        assert response.headers["location"] == f"/v1/runs/{run['id']}"
        assert (run["status"], run["finished_at"]) == ("running", None)
        gate.set()
        assert (await e.became(run["id"], "succeeded"))["output"] == "done"


async def test_a_cancelled_run_is_an_answer_of_its_own_resource(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e:
        call = asyncio.create_task(e.client.post("/v1/runs", json=RUN))
        await until(lambda: e.provider.requests)
        (live,) = (await e.client.get("/v1/runs")).json()["data"]
        stopped = await e.client.post(f"/v1/runs/{live['id']}/cancel", json={"reason": "not wanted"})
        assert stopped.status_code == 202
        assert stopped.json()["id"] == live["id"]
        response = await call
        assert (response.status_code, response.json()["status"]) == (201, "cancelled")
        assert response.json()["error"]["code"] == "run_cancelled"
        again = await e.client.post(f"/v1/runs/{live['id']}/cancel")
        assert (again.status_code, again.json()) == (200, response.json())
        (*_, end) = await e.frames("GET", f"/v1/runs/{live['id']}/events")
        assert end[2]["cancellation"] == {"by": None, "reason": "not wanted"}


@pytest.mark.parametrize("content", [b"", b"{}", b"null"])
async def test_a_cancel_needs_no_body(edge: Any, content: bytes) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e:
        run = (await e.client.post("/v1/runs", json=RUN | {"background": True})).json()
        headers = {"Content-Type": "application/json"} if content else {}
        stopped = await e.client.post(f"/v1/runs/{run['id']}/cancel", content=content, headers=headers)
        assert stopped.status_code == 202
        await e.became(run["id"], "cancelled")


async def test_a_busy_session(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("first")], says("second"), says("third"))) as e:
        body = RUN | {"session_id": "s", "background": True}
        first = (await e.client.post("/v1/runs", json=body)).json()
        check(await e.client.post("/v1/runs", json=body | {"on_busy": "reject"}), 409, "session_busy")
        second = (await e.client.post("/v1/runs", json=body | {"on_busy": "enqueue"})).json()
        assert second["status"] == "queued"
        third = await e.client.post("/v1/runs", json=body | {"on_busy": "interrupt", "background": False})
        assert (third.status_code, third.json()["status"]) == (201, "succeeded")
        for earlier in (first, second):
            run = await e.run(earlier["id"])
            assert (run["status"], run["error"]["code"]) == ("cancelled", "run_cancelled")
        assert len((await e.client.get("/v1/runs")).json()["data"]) == 3


async def test_a_delayed_run_waits_for_its_time(edge: Any) -> None:
    async with edge(ScriptedProvider(says("early"), says("now"))) as e:
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        delayed = (await e.client.post("/v1/runs", json=RUN | {"background": True, "not_before": later})).json()
        assert delayed["status"] == "queued"
        past = RUN | {"not_before": "2020-01-01T00:00:00+02:00", "priority": -10}
        assert (await e.client.post("/v1/runs", json=past)).json()["output"] == "early"
        assert (await e.run(delayed["id"]))["status"] == "queued"
        stopped = await e.client.post(f"/v1/runs/{delayed['id']}/cancel")
        assert (stopped.status_code, stopped.json()["status"]) == (202, "cancelled")
        for far in ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"):
            response = await e.client.post("/v1/runs", json=RUN | {"background": True, "not_before": far})
            assert (response.status_code, response.json()["status"]) == (202, "queued")
        ancient = RUN | {"not_before": "0001-01-01T00:00:00+14:00"}
        assert (await e.client.post("/v1/runs", json=ancient)).json()["output"] == "now"


async def test_a_run_stops_after_a_step_and_is_resumed(edge: Any) -> None:
    async with edge(ScriptedProvider(CALL, says("", ("c2", "echo", "{}")), says("done"))) as e:
        response = await e.client.post("/v1/runs", json=RUN | {"stop_after": "tool", "session_id": "s"})
        run = response.json()
        assert (response.status_code, run["status"], run["stop_reason"]) == (201, "waiting", "stopped_after_step")
        assert len(e.toolbox.calls) == 1
        path = f"/v1/runs/{run['id']}/resume"
        check(await e.client.post(path, json={"stop_after": "nothing"}), 422, "validation_error")
        again = await e.client.post(path, json={"stop_after": "model"})
        assert (again.status_code, again.json()["status"], again.json()["id"]) == (201, "waiting", run["id"])
        assert (len(e.toolbox.calls), len(e.provider.requests)) == (1, 2)
        background = await e.client.post(path, json={"background": True})
        assert background.status_code == 202
        assert background.headers["location"] == f"/v1/runs/{run['id']}"
        ended = await e.became(run["id"], "succeeded")
        assert (ended["output"], ended["iterations"]) == ("done", 3)
        check(await e.client.post(path), 409, "run_finished")
        assert [m["role"] for m in (await e.client.get("/history/s")).json()["messages"]] == [
            "user", "assistant", "tool", "assistant", "tool", "assistant",
        ]  # fmt: skip


async def test_quick_answers_of_a_run_that_waits(edge: Any) -> None:
    risky = says("", ("c1", "risky", '{"all":true}'))
    async with edge(ScriptedProvider(*[risky] * 4)) as e:
        for path, body in (
            ("/chat", {"message": "x"}),
            ("/agents/helper", {"input": "x"}),
            ("/agent", {"question": "x"}),
        ):
            response = await e.client.post(path, json=body)
            assert response.status_code == 202, response.text
            waiting = response.json()
            assert set(waiting) == {"run_id", "session_id", "status", "approvals", "metadata"}
            assert waiting["status"] == "waiting"
            (approval,) = waiting["approvals"]
            assert (approval["name"], approval["arguments"], approval["risk"]) == ("risky", {"all": True}, "high")
            assert waiting["metadata"]["stop_reason"] == "approval_required"
            assert waiting["metadata"]["iterations"] == 1
        events = await e.frames("POST", "/chat/stream", {"message": "x"})
        assert events[-1][1] == "done"
        assert (events[-1][2]["status"], len(events[-1][2]["approvals"])) == ("waiting", 1)


async def test_a_failed_run_is_taken_up_by_a_new_one(edge: Any) -> None:
    provider = ScriptedProvider(CALL, [ProviderError("overloaded", "busy")], says("at last"))
    async with edge(provider) as e:
        failed = (await e.client.post("/v1/runs", json=RUN)).json()
        assert failed["status"] == "failed"
        response = await e.client.post(f"/v1/runs/{failed['id']}/resume")
        run = response.json()
        assert (response.status_code, run["status"], run["output"]) == (201, "succeeded", "at last")
        assert run["resumed_from"] == failed["id"] != run["id"]
        assert response.headers["location"] == f"/v1/runs/{run['id']}"
        assert len(e.toolbox.calls) == 1
        assert (await e.run(failed["id"])) == failed


async def test_a_live_run_is_steered(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "slow", "{}")), says("as you say"))) as e:
        run = (await e.client.post("/v1/runs", json=RUN | {"background": True})).json()
        await e.toolbox.started.wait()
        path = f"/v1/runs/{run['id']}/messages"
        response = await e.client.post(path, json={"content": "be quick"})
        assert response.status_code == 202
        told = response.json()
        assert (set(told), told["run_id"]) == ({"message_id", "run_id"}, run["id"])
        e.toolbox.gate.set()
        await e.became(run["id"], "succeeded")
        assert [m.content for m in e.provider.requests[1].messages][-1] == "be quick"
        check(await e.client.post(path, json={"content": "too late"}), 409, "run_finished")
        messages = (await e.client.get(f"/history/{run['session_id']}")).json()["messages"]
        assert told["message_id"] in [m["id"] for m in messages]


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"agent": None}, "agent"), ({"agent": 1}, "agent"), ({"on_busy": "wait"}, "on_busy"), ({"priority": 11}, "priority"),
        ({"priority": -11}, "priority"), ({"priority": 1.5}, "priority"), ({"not_before": "soon"}, "not_before"),
        ({"not_before": "2026-01-01T00:00:00"}, "not_before"), ({"not_before": 5}, "not_before"),
        ({"stop_after": ""}, "stop_after"), ({"stop_after": "nothing"}, "stop_after"), ({"background": 1}, "background"),
        ({"callback_url": "ftp://x"}, "callback_url"), ({"callback_url": "x"}, "callback_url"),
        ({"callback_url": f"http://{FORBIDDEN}/"}, "callback_url"), ({"callback_url": "https://"}, "callback_url"),
        ({"timeout": 0}, "timeout"), ({"include_steps": True}, "include_steps"), ({"message": "a"}, "message"),
        ({"session_id": "a b"}, "session_id"), ({"tags": []}, "tags"),
    ],
)  # fmt: skip
async def test_wishes_that_cannot_be_met(edge: Any, wrong: dict[str, Any], path: str) -> None:
    async with edge(ScriptedProvider()) as e:
        problem = check(await e.client.post("/v1/runs", json=RUN | wrong), 422, "validation_error")
        assert [error["path"] for error in problem["errors"]] == [path]
        assert (await e.client.get("/v1/runs")).json()["data"] == []


async def test_what_is_missing_or_unknown(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        check(await e.client.post("/v1/runs", json={"input": 1}), 422, "validation_error")
        check(await e.client.post("/v1/runs", json={"agent": "helper"}), 422, "validation_error")
        check(await e.client.post("/v1/runs"), 400, "malformed_json")
        check(await e.client.post("/v1/runs", json=RUN | {"agent": "nobody"}), 404, "not_found")
        for run_id in ("nothing", "%00", "%ff", "x" * 2000):
            for action, body in (("cancel", None), ("resume", None), ("messages", {"content": "x"})):
                check(await e.client.post(f"/v1/runs/{run_id}/{action}", json=body), 404, "not_found")
        wrong: Any
        for action, wrong in (
            ("cancel", {"reason": 1}), ("cancel", {"why": "x"}), ("cancel", []), ("cancel", {"reason": "x" * 1001}),
            ("resume", {"stop_after": 1}), ("resume", {"background": "yes"}), ("messages", {}), ("messages", {"content": ""}),
            ("messages", {"content": "a\0b"}), ("messages", {"content": 1}), ("cancel", {"reason": "\0"}),
        ):  # fmt: skip
            check(await e.client.post(f"/v1/runs/nothing/{action}", json=wrong), 422, "validation_error")
        check(await e.client.post("/v1/runs/nothing/messages"), 400, "malformed_json")
        check(await e.client.post("/v1/runs/nothing/cancel", content=b"{"), 415, "unsupported_media_type")


async def test_runs_of_others_are_not_there(edge: Any) -> None:
    ann, bob = Principal(tenant="default", user="ann"), Principal(tenant="default", user="bob")
    stranger = Principal(tenant="other")
    async with edge(ScriptedProvider([asyncio.Event()]), principal=ann) as e:
        run = (await e.client.post("/v1/runs", json=RUN | {"background": True})).json()
        assert run["user_id"] == "ann"
        for other in (bob, stranger):
            async with edge(ScriptedProvider(), react(), principal=other) as o:
                for action, body in (("cancel", None), ("resume", None), ("messages", {"content": "x"})):
                    check(await o.client.post(f"/v1/runs/{run['id']}/{action}", json=body), 404, "not_found")
                check(await o.client.get(f"/v1/runs/{run['id']}"), 404, "not_found")
        assert (await e.run(run["id"]))["status"] == "running"
