"""One request, however often it is sent: every route that changes something, its answers, and who attaches to what."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx2
import pytest

from app.api.aside import INLINE
from app.api.idempotency import _fingerprint
from app.domain.errors import ProviderError
from tests.api.edge import frames
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

KEY = {"Idempotency-Key": "k-1"}
RUNS = [
    ("/chat", {"message": "x"}), ("/agents/helper", {"input": "x"}), ("/agent", {"question": "x"}),
    ("/v1/runs", {"agent": "helper", "input": "x"}), ("/v1/runs", {"agent": "helper", "input": "x", "background": True}),
    ("/chat/async", {"message": "x"}), ("/chat/async", {"items": [{"message": "x"}, {"message": "x"}]}),
]  # fmt: skip
STREAMS = [("/chat/stream", {"message": "x"}), ("/agents/helper/stream", {"input": "x"})]


def replayed(response: httpx2.Response) -> bool:
    return response.headers.get("idempotency-replayed") == "true"


async def ended(e: Any) -> list[dict[str, Any]]:
    """All runs, once they have ended."""
    while True:
        runs: list[dict[str, Any]] = (await e.client.get("/v1/runs")).json()["data"]
        if all(run["finished_at"] for run in runs):
            return runs


@pytest.mark.parametrize(("path", "body"), RUNS)
async def test_a_run_is_made_once(edge: Any, path: str, body: dict[str, Any]) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 4)) as e:
        first = await e.client.post(path, json=body, headers=KEY)
        assert first.status_code < 300
        assert not replayed(first)
        before = await ended(e)
        again = await e.client.post(path, json=body, headers=KEY)
        assert again.status_code == first.status_code
        assert replayed(again)
        assert again.headers.get("location") == first.headers.get("location")
        if path not in ("/chat/async", "/v1/runs"):
            assert again.json() == first.json()
        assert await ended(e) == before
        assert len(before) == len(e.provider.requests) == (2 if "items" in body else 1)
        other = await e.client.post(path, json=body, headers={"Idempotency-Key": "k-2"})
        assert not replayed(other)
        assert len(await ended(e)) == 2 * len(before)


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_is_replayed_from_its_first_event(edge: Any, path: str, body: dict[str, Any]) -> None:
    turn = (says("Let me see.", ("c1", "echo", '{"a":1}')), says("It is 1.", pieces=3))
    async with edge(ScriptedProvider(*turn)) as e:
        first = await e.client.post(path, json=body, headers=KEY)
        again = await e.client.post(path, json=body, headers=KEY)
        assert (replayed(first), replayed(again)) == (False, True)
        names = [name for _, name, _ in frames(again.content)]
        assert names == ["start", "chunk", "tool", "tool", "chunk", "done"]
        assert frames(again.content)[0] == frames(first.content)[0]
        assert frames(again.content)[-1] == frames(first.content)[-1]
        assert len(e.provider.requests) == 2


@pytest.mark.parametrize(("path", "body"), [*RUNS, *STREAMS])
async def test_another_body_is_refused(edge: Any, path: str, body: dict[str, Any]) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 3)) as e:
        assert (await e.client.post(path, json=body, headers=KEY)).status_code < 300
        await ended(e)
        for other in (
            body | {"session_id": "s"},
            body | {"items": [{"message": "y"}, {"message": "x"}, {"message": "x"}]},
        ):
            if ("items" in other) == ("items" in body) and not ("items" in body and "session_id" in other):
                check(await e.client.post(path, json=other, headers=KEY), 422, "idempotency_key_reused")
        if path == "/chat/async":
            turned = {"message": "x"} if "items" in body else {"items": [{"message": "x"}]}
            check(await e.client.post(path, json=turned, headers=KEY), 422, "idempotency_key_reused")
        assert len((await e.client.get("/v1/runs")).json()["data"]) == len(e.provider.requests)


async def test_fifty_at_once_make_one_run_and_all_get_its_answer(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("one answer")])
    async with edge(provider, hinted=True) as e, edge(provider, hinted=True) as other:
        posts = [
            asyncio.create_task((e, other)[n % 2].client.post("/chat", json={"message": "x"}, headers=KEY))
            for n in range(50)
        ]
        await until(lambda: provider.requests)
        gate.set()
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["response"] == "one answer"
        assert sorted(map(replayed, answers)) == [False] + [True] * 49
        assert len((await e.client.get("/v1/runs")).json()["data"]) == 1


async def test_fifty_streams_at_once_are_one_run(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("one answer", pieces=5)])
    async with edge(provider, hinted=True) as e, edge(provider, hinted=True) as other:
        posts = [
            asyncio.create_task((e, other)[n % 2].client.post("/chat/stream", json={"message": "x"}, headers=KEY))
            for n in range(50)
        ]
        await until(lambda: provider.requests)
        gate.set()
        for answer in await asyncio.gather(*posts):
            events = frames(answer.content)
            assert "".join(data["text"] for _, name, data in events if name == "chunk") == "one answer"
            assert (events[0][1], events[-1][1]) == ("start", "done")
        assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("script", "status"), [([ProviderError("overloaded", "busy")], 503), ([ValueError("a bug")], 500)]
)
async def test_a_failure_is_answered_again(edge: Any, script: Any, status: int) -> None:
    async with edge(ScriptedProvider(script, says("never"))) as e:
        first = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        again = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        assert first.status_code == again.status_code == status
        assert replayed(again)
        assert {k: v for k, v in first.json().items() if k != "request_id"} == {
            k: v for k, v in again.json().items() if k != "request_id"
        }
        assert len(e.provider.requests) == 1


async def test_a_run_that_waits_is_answered_as_it_is_then(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "risky", "{}")), says("done"))) as e:
        first = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        again = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        approval = first.json()["approvals"][0]["id"]
        await e.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})
        await e.became(first.json()["run_id"], "succeeded")
        last = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        assert (last.status_code, last.json()["response"], replayed(last)) == (200, "done", True)


async def test_refusals_are_not_kept(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"), [asyncio.Event()])) as e:
        check(await e.client.post("/chat", json={"message": "x", "agent": "nobody"}, headers=KEY), 404, "not_found")
        check(await e.client.post("/chat", json={"message": 1}, headers=KEY), 422, "validation_error")
        assert (await e.client.post("/chat", json={"message": "x"}, headers=KEY)).status_code == 200
        busy = {"agent": "helper", "input": 1, "session_id": "s", "background": True}
        run = (await e.client.post("/v1/runs", json=busy)).json()
        body = busy | {"on_busy": "reject"}
        check(await e.client.post("/v1/runs", json=body, headers=KEY), 409, "session_busy")
        check(await e.client.post("/v1/sessions/nothing/fork", headers=KEY), 404, "not_found")
        await e.client.post(f"/v1/runs/{run['id']}/cancel")
        await e.became(run["id"], "cancelled")
        e.provider.answers.append(says("free"))
        assert (await e.client.post("/v1/runs", json=body | {"background": False}, headers=KEY)).json()[
            "output"
        ] == "free"


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "é", "a\tb"])
async def test_keys_that_are_none(edge: Any, key: str) -> None:
    async with edge(ScriptedProvider()) as e:
        for method, path, body in (
            ("POST", "/chat", {"message": "x"}),
            ("POST", "/chat/stream", {"message": "x"}),
            ("DELETE", "/v1/sessions/s", None),
        ):
            headers = {b"Idempotency-Key": key.encode("latin-1")}
            problem = check(await e.client.request(method, path, json=body, headers=headers), 422, "validation_error")
            assert [error["path"] for error in problem["errors"]] == ["Idempotency-Key"]
        two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        check(await e.client.post("/chat", json={"message": "x"}, headers=two), 422, "validation_error")


async def test_a_key_is_for_one_path_and_for_bodies_that_mean_the_same(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 3), react(name="helper"), react(name="other")) as e:
        for name in ("helper", "other"):
            response = await e.client.post(f"/agents/{name}", json={"input": "x"}, headers=KEY)
            assert not replayed(response)
        json = {"Content-Type": "application/json"}
        first = await e.client.post("/chat", content=b'{"message": "x", "session_id": "s"}', headers=KEY | json)
        again = await e.client.post("/chat", content=b'{"session_id":"s","message":"\\u0078"}', headers=KEY | json)
        assert (replayed(first), replayed(again)) == (False, True)


async def test_what_makes_no_run_is_done_once(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"), says("more"), [asyncio.Event()])) as e:
        await e.ask(session_id="s")
        reset = {"session_id": "s"}
        assert (await e.client.post("/reset", json=reset, headers=KEY)).status_code == 204
        await e.ask(session_id="s")
        again = await e.client.post("/reset", json=reset, headers=KEY)
        assert (again.status_code, again.content, replayed(again)) == (204, b"", True)
        assert len((await e.client.get("/history/s")).json()["messages"]) == 2

        state = {"state": {"n": 1}}
        answers = [await e.client.put("/v1/sessions/s/state", json=state, headers=KEY) for _ in range(2)]
        assert [answer.json()["version"] for answer in answers] == [1, 1]
        assert [answer.headers["etag"] for answer in answers] == ['"1"', '"1"']
        assert list(map(replayed, answers)) == [False, True]

        forks = [await e.client.post("/v1/sessions/s/fork", headers=KEY) for _ in range(2)]
        assert [fork.status_code for fork in forks] == [201, 201]
        assert forks[0].json() == forks[1].json()
        assert forks[0].headers["location"] == forks[1].headers["location"]
        assert len((await e.client.get("/v1/sessions")).json()["data"]) == 2

        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": 1, "background": True})).json()
        await until(lambda: len(e.provider.requests) == 3)
        path = f"/v1/runs/{run['id']}"
        steered = [await e.client.post(f"{path}/messages", json={"content": "x"}, headers=KEY) for _ in range(2)]
        assert steered[0].json() == steered[1].json()
        check(
            await e.client.post(f"{path}/messages", json={"content": "y"}, headers=KEY), 422, "idempotency_key_reused"
        )
        cancelled = [await e.client.post(f"{path}/cancel", headers=KEY)]
        await e.became(run["id"], "cancelled")
        cancelled.append(await e.client.post(f"{path}/cancel", headers=KEY))
        assert [answer.status_code for answer in cancelled] == [202, 202]
        assert cancelled[0].json() == cancelled[1].json()

        gone = [await e.client.delete("/v1/sessions/s", headers=KEY) for _ in range(2)]
        assert [answer.status_code for answer in gone] == [204, 204]
        assert list(map(replayed, gone)) == [False, True]
        check(await e.client.delete("/v1/sessions/s"), 404, "not_found")


async def test_forks_at_once_are_one(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        await e.ask(session_id="s")
        forks = await asyncio.gather(*(e.client.post("/v1/sessions/s/fork", headers=KEY) for _ in range(20)))
        assert {fork.status_code for fork in forks} == {201}
        assert len({fork.content for fork in forks}) == 1
        assert len((await e.client.get("/v1/sessions")).json()["data"]) == 2


async def test_a_resume_is_done_once(edge: Any) -> None:
    calls = [says("", (f"c{n}", "echo", "{}")) for n in range(3)]
    async with edge(ScriptedProvider(*calls, says("done"))) as e:
        body = {"agent": "helper", "input": 1, "stop_after": "tool"}
        run = (await e.client.post("/v1/runs", json=body)).json()
        path = f"/v1/runs/{run['id']}/resume"
        answers = [await e.client.post(path, json={"stop_after": "tool"}, headers=KEY) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201] * 3
        assert list(map(replayed, answers)) == [False, True, True]
        assert {answer.json()["status"] for answer in answers} == {"waiting"}
        assert len(e.toolbox.calls) == 2
        check(await e.client.post(path, json={}, headers=KEY), 422, "idempotency_key_reused")


async def test_resumes_at_once_are_one(edge: Any) -> None:
    calls = [says("", (f"c{n}", "echo", "{}")) for n in range(2)]
    async with edge(ScriptedProvider(*calls, says("done"))) as e:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": 1, "stop_after": "tool"})).json()
        path = f"/v1/runs/{run['id']}/resume"
        body = {"stop_after": "tool"}
        answers = await asyncio.gather(*(e.client.post(path, json=body, headers=KEY) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        assert {answer.json()["status"] for answer in answers} == {"waiting"}
        assert len(e.toolbox.calls) == 2


async def test_a_failed_run_is_resumed_once(edge: Any) -> None:
    async with edge(ScriptedProvider([ProviderError("overloaded", "busy")], says("done"))) as e:
        failed = (await e.client.post("/v1/runs", json={"agent": "helper", "input": 1})).json()
        path = f"/v1/runs/{failed['id']}/resume"
        answers = await asyncio.gather(*(e.client.post(path, headers=KEY) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum(map(replayed, answers)) == 9
        assert len(e.provider.requests) == 2


async def test_an_approval_under_a_key(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "risky", "{}")), says("done"))) as e:
        approval = (await e.client.post("/chat", json={"message": "x"})).json()["approvals"][0]["id"]
        path = f"/v1/approvals/{approval}"
        answers = [await e.client.post(path, json={"decision": "approve"}, headers=KEY) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        assert list(map(replayed, answers)) == [False, True]
        check(await e.client.post(path, json={"decision": "deny"}, headers=KEY), 422, "idempotency_key_reused")


def test_large_bodies_are_compared_as_they_are() -> None:
    """A small one is known again however it is written; nothing is made of a large one, which is hashed."""
    for size, same in ((10, True), (INLINE, False)):
        text = b'"' + b"x" * size + b'"'
        one, other = b'{"a":1,"b":%s}' % text, b'{ "b": %s, "a": 1 }' % text
        assert (_fingerprint(one, b"") == _fingerprint(other, b"")) is same
        assert _fingerprint(one, b"") == _fingerprint(one, b"") != _fingerprint(one, b"q=1")
    deep = b"[" * 20_000
    assert _fingerprint(deep, b"") == hashlib.sha256(deep).hexdigest()
