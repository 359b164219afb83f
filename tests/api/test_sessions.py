"""Sessions deleted, forked, and their state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.principals import Principal
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def contents(e: Any, session_id: str) -> list[str]:
    messages = (await e.client.get(f"/history/{session_id}")).json()["messages"]
    return [message["content"] for message in messages]


async def test_state_is_read_and_replaced(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        await e.ask(session_id="s")
        path = "/v1/sessions/s/state"
        fresh = await e.client.get(path)
        assert (fresh.status_code, fresh.json(), fresh.headers["etag"]) == (200, {"state": {}, "version": 0}, '"0"')
        first = await e.client.put(path, json={"state": {"a": [1, {"b": None}]}})
        assert (first.json(), first.headers["etag"]) == ({"state": {"a": [1, {"b": None}]}, "version": 1}, '"1"')
        for given, header in (({"version": 1}, None), ({}, '"2"'), ({"version": 3}, 'W/"3"'), ({}, "*")):
            headers = {} if header is None else {"If-Match": header}
            changed = await e.client.put(path, json={"state": {"h": header}} | given, headers=headers)
            assert (changed.status_code, changed.json()["state"]) == (200, {"h": header})
        assert (await e.client.get(path)).json()["version"] == 5
        for given, header in (({"version": 4}, None), ({}, '"4"'), ({"version": 6}, None)):
            headers = {} if header is None else {"If-Match": header}
            problem = check(
                await e.client.put(path, json={"state": {}} | given, headers=headers), 409, "state_conflict"
            )
            assert "5" in problem["detail"]
        for given, header in (({"version": 4}, '"5"'), ({}, "5"), ({}, '"x"'), ({}, '"4", "5"'), ({}, "")):
            problem = check(
                await e.client.put(path, json={"state": {}} | given, headers={"If-Match": header}),
                422,
                "validation_error",
            )
            assert [error["path"] for error in problem["errors"]] == ["If-Match"]
        assert (await e.client.get(path)).json() == {"state": {"h": "*"}, "version": 5}


async def test_of_many_who_change_one_version_one_does(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        await e.ask(session_id="s")
        path = "/v1/sessions/s/state"
        changes = [e.client.put(path, json={"state": {"n": n}, "version": 0}) for n in range(10)]
        statuses = [response.status_code for response in await asyncio.gather(*changes)]
        assert sorted(statuses) == [200] + [409] * 9
        assert (await e.client.get(path)).json() == {"state": {"n": statuses.index(200)}, "version": 1}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"state": None}, {"state": []}, {"state": "x"}, {"state": {"a": "\0"}}, {"state": {}, "version": -1},
        {"state": {}, "version": "1"}, {"state": {}, "version": 2**31}, {"state": {}, "etag": "1"},
    ],
)  # fmt: skip
async def test_states_that_are_none(edge: Any, body: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        await e.ask(session_id="s")
        check(await e.client.put("/v1/sessions/s/state", json=body), 422, "validation_error")
        assert (await e.client.get("/v1/sessions/s/state")).json()["version"] == 0


async def test_a_fork_goes_its_own_way(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says(f"a{n}") for n in range(6)])) as e:
        runs = [await e.ask(f"q{n}", session_id="s") for n in range(2)]
        await e.client.put("/v1/sessions/s/state", json={"state": {"k": "v"}})
        whole = await e.client.post("/v1/sessions/s/fork")
        assert whole.status_code == 201
        fork = whole.json()
        assert set(fork) == {"id", "user_id", "created_at", "updated_at"}
        assert whole.headers["location"] == f"/v1/sessions/{fork['id']}"
        assert (await e.client.get(whole.headers["location"])).json() == fork
        assert await contents(e, fork["id"]) == ["q0", "a0", "q1", "a1"]
        assert (await e.client.get(f"/v1/sessions/{fork['id']}/state")).json()["state"] == {"k": "v"}
        body = {"session_id": "t", "after_run": runs[0]["run_id"], "user_id": "ann"}
        half = (await e.client.post("/v1/sessions/s/fork", json=body)).json()
        assert (half["id"], half["user_id"]) == ("t", "ann")
        await e.ask("other", session_id="t", user_id="ann")
        assert await contents(e, "t") == ["q0", "a0", "other", "a2"]
        assert [m.content for m in e.provider.requests[2].messages] == ["q0", "a0", "other"]
        assert await contents(e, "s") == ["q0", "a0", "q1", "a1"]
        again = await e.client.post("/v1/sessions/t/fork", json={"session_id": "u"})
        assert await contents(e, again.json()["id"]) == ["q0", "a0", "other", "a2"]
        check(await e.client.post("/v1/sessions/s/fork", json={"session_id": "t"}), 409, "session_busy")
        check(await e.client.post("/v1/sessions/s/fork", json={"after_run": "nothing"}), 404, "not_found")
        other = (await e.ask(session_id="v"))["run_id"]
        check(await e.client.post("/v1/sessions/s/fork", json={"after_run": other}), 404, "not_found")
        wrong: Any
        for wrong in (
            {"session_id": "a b"}, {"session_id": "a\n"}, {"session_id": ""}, {"user_id": ""}, {"after_run": 1}, {"after_run": "\0"},
            {"from": "x"}, [],
        ):  # fmt: skip
            check(await e.client.post("/v1/sessions/s/fork", json=wrong), 422, "validation_error")


async def test_a_session_is_deleted_with_all_that_is_in_it(edge: Any) -> None:
    async with edge(ScriptedProvider(says("one"), [asyncio.Event()], says("anew"))) as e:
        run_id = (await e.ask(session_id="s"))["run_id"]
        live = asyncio.create_task(e.client.post("/chat", json={"message": "x", "session_id": "s"}))
        await until(lambda: len(e.provider.requests) == 2)
        gone = await e.client.delete("/v1/sessions/s")
        assert (gone.status_code, gone.content) == (204, b"")
        check(await live, 409, "run_cancelled")
        for path in ("/v1/sessions/s", "/v1/sessions/s/messages", "/v1/sessions/s/state", "/history/s", f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/events"):  # fmt: skip
            check(await e.client.get(path), 404, "not_found")
        check(await e.client.delete("/v1/sessions/s"), 404, "not_found")
        assert (await e.client.get("/v1/runs")).json()["data"] == []
        assert (await e.client.get("/v1/sessions")).json()["data"] == []
        await e.ask(session_id="s")
        assert await contents(e, "s") == ["hello", "anew"]


async def test_sessions_that_are_not_there(edge: Any) -> None:
    ann, bob = Principal(tenant="default", user="ann"), Principal(tenant="default", user="bob")
    async with edge(ScriptedProvider(says("ok")), principal=ann) as e:
        await e.ask(session_id="s")
        for other in (bob, Principal(tenant="other")):
            async with edge(ScriptedProvider(), react(), principal=other) as o:
                for session_id in ("s", "nothing", "%00", "%ff", "x" * 500):
                    path = f"/v1/sessions/{session_id}"
                    for method, what, body in (
                        ("DELETE", "", None), ("GET", "/state", None), ("PUT", "/state", {"state": {}}),
                        ("POST", "/fork", {}), ("POST", "/fork", None),
                    ):  # fmt: skip
                        check(await o.client.request(method, path + what, json=body), 404, "not_found")
        assert (await e.client.get("/v1/sessions/s/state")).json() == {"state": {}, "version": 0}
        assert await contents(e, "s") == ["hello", "ok"]
