"""Turns that nobody waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.errors import DatabaseUnavailable
from tests.api.edge import FORBIDDEN
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

HOOK = "https://example.com/hook"


async def test_one_turn_is_accepted_at_once(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("done")])) as e:
        body = {"message": "x", "session_id": "s", "user_id": "ann", "tags": {"a": "b"}, "callback_url": HOOK}
        response = await e.client.post("/chat/async", json=body)
        assert response.status_code == 202
        task = response.json()
        assert task == {"task_id": task["task_id"], "status": "running", "session_id": "s"}
        assert response.headers["location"] == f"/v1/runs/{task['task_id']}"
        queued = await e.client.post("/chat/async", json=body)
        assert queued.json()["status"] == "queued"
        gate.set()
        run = await e.became(task["task_id"], "succeeded")
        assert (run["output"], run["user_id"], run["tags"]) == ("done", "ann", {"a": "b"})
        callback = (await e.client.get(f"/v1/runs/{task['task_id']}/callbacks")).json()
        assert (callback["url"], callback["data"]) == (HOOK, [])


async def test_each_item_is_a_run_of_its_own(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says(f"a{n}") for n in range(4)]), react(name="one"), react(name="two")) as e:
        items = [
            {"message": "q0", "session_id": "s"}, {"message": "q1", "session_id": "s", "agent": "two"},
            {"message": "q2", "callback_url": "https://example.com/other"}, {"message": "q3", "tags": {"n": "3"}},
        ]  # fmt: skip
        response = await e.client.post("/chat/async", json={"items": items, "callback_url": HOOK})
        assert response.status_code == 202
        assert "location" not in response.headers
        tasks = response.json()["tasks"]
        assert [set(task) for task in tasks] == [{"task_id", "status", "session_id"}] * 4
        runs = [await e.became(task["task_id"], "succeeded") for task in tasks]
        assert [run["agent"] for run in runs] == ["one", "two", "one", "one"]
        assert [run["session_id"] for run in runs] == [task["session_id"] for task in tasks]
        assert len({task["session_id"] for task in tasks}) == 3
        assert runs[3]["tags"] == {"n": "3"}
        messages = (await e.client.get("/history/s")).json()["messages"]
        assert [m["content"] for m in messages][::2] == ["q0", "q1"]
        urls = [(await e.client.get(f"/v1/runs/{run['id']}/callbacks")).json()["url"] for run in runs]
        assert urls == [HOOK, HOOK, "https://example.com/other", HOOK]


async def test_an_item_that_is_refused_keeps_no_other_back(edge: Any) -> None:
    async with edge(ScriptedProvider(says("a"), says("b"))) as e:
        items = [
            {"message": "q0"}, {"message": "q1", "agent": "nobody"},
            {"message": "q2", "callback_url": f"https://{FORBIDDEN}/"}, {"message": "q3"},
        ]  # fmt: skip
        response = await e.client.post("/chat/async", json={"items": items})
        assert response.status_code == 202
        first, unknown, forbidden, last = response.json()["tasks"]
        for task in (unknown, forbidden):
            assert set(task) == {"status", "problem"}
            assert task["status"] == "refused"
        assert (unknown["problem"]["status"], unknown["problem"]["code"]) == (404, "not_found")
        assert forbidden["problem"]["errors"][0]["path"] == "items[2].callback_url"
        for task in (first, last):
            await e.became(task["task_id"], "succeeded")
        nobody = {"items": [{"message": "x", "agent": "nobody"}] * 2}
        check(await e.client.post("/chat/async", json=nobody), 404, "not_found")


async def test_a_database_that_goes_away_on_the_way(edge: Any) -> None:
    class Leaving:
        """Takes one run, and is away from then on."""

        def __init__(self, store: Any) -> None:
            self._store = store
            self.asked = 0

        def __getattr__(self, name: str) -> Any:
            if name == "start":
                self.asked += 1
                if self.asked > 1:
                    raise DatabaseUnavailable("refused")
            return getattr(self._store, name)

    stores: list[Leaving] = []

    def leaving(store: Any) -> Any:
        stores.append(Leaving(store))
        return stores[-1]

    async with edge(ScriptedProvider(says("a")), through=leaving) as e:
        tasks = (await e.client.post("/chat/async", json={"items": [{"message": "x"}] * 20})).json()["tasks"]
        assert [task["status"] for task in tasks] == ["running"] + ["refused"] * 19
        assert {task["problem"]["code"] for task in tasks[1:]} == {"not_ready"}
        assert max(store.asked for store in stores) == 2


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ""), ({"items": []}, "items"), ({"items": [{}]}, "items[0].message"), ({"message": "a", "items": [{"message": "b"}]}, ""),
        ({"items": [{"message": "a"}], "session_id": "s"}, ""), ({"items": [{"message": "a"}], "tags": {"a": "b"}}, ""),
        ({"items": [{"message": "a"}] * 101}, "items"), ({"items": {"message": "a"}}, "items"), ({"items": None}, "items"),
        ({"message": None}, "message"), ({"message": ""}, "message"), ({"message": "a", "include_steps": True}, "include_steps"),
        ({"items": [{"message": "a", "items": []}]}, "items[0].items"), ({"message": "a", "callback_url": "ftp://x"}, "callback_url"),
        ({"message": "a", "callback_url": f"https://{FORBIDDEN}"}, "callback_url"), ({"message": "a", "stop_after": "tool"}, "stop_after"),
    ],
)  # fmt: skip
async def test_bodies_that_are_none(edge: Any, body: dict[str, Any], path: str) -> None:
    async with edge(ScriptedProvider()) as e:
        problem = check(await e.client.post("/chat/async", json=body), 422, "validation_error")
        assert [error["path"] for error in problem["errors"]] == [path]
        assert (await e.client.get("/v1/runs")).json()["data"] == []


async def test_a_hundred_items(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 100)) as e:
        response = await e.client.post("/chat/async", json={"items": [{"message": f"q{n}"} for n in range(100)]})
        tasks = response.json()["tasks"]
        assert len({task["task_id"] for task in tasks}) == 100
        for task in tasks:
            await e.became(task["task_id"], "succeeded")
