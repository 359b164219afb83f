"""How a run ended decides what its caller is answered, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import httpx2
import pytest

from app.api.problems import STATUS, TITLES
from app.domain.agents import Limits
from app.domain.errors import ProviderError, ProvidersUnavailable, RequestCode
from tests.api.edge import frames
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import Say, ScriptedProvider, says
from tests.waiting import until

SCHEMA = {"type": "object", "required": ["n"]}
DOWN = ProvidersUnavailable("default", [ProviderError("connect", "refused")])
CALL = says("", ("c", "echo", "{}"))


async def both(e: Any, **more: Any) -> tuple[httpx2.Response, list[Any]]:
    """The answer to the same turn, whole and streamed."""
    body = {"message": "x"} | more
    return await e.client.post("/chat", json=body), await e.frames("POST", "/chat/stream", body)


@pytest.mark.parametrize(
    ("script", "agent", "status", "code", "stop_reason"),
    [
        ([ProviderError("overloaded", "busy")], react(), 503, "providers_unavailable", "providers_unavailable"),
        ([ProviderError("connect", "refused")], react(), 503, "providers_unavailable", "providers_unavailable"),
        ([*says("half")[:1], ProviderError("stream_broken", "cut")], react(), 503, "providers_unavailable", "providers_unavailable"),
        ([ProviderError("bad_request", "no")], react(), 502, "provider_error", "error"),
        (says("no json"), react(output_schema=SCHEMA), 502, "invalid_output", "invalid_output"),
        ([ValueError("a bug")], react(), 500, "internal", "error"),
        ([asyncio.Event()], react(limits=Limits(timeout=0.1)), 504, "timeout", "timeout"),
    ],
)  # fmt: skip
async def test_runs_without_an_answer(
    edge: Any, script: Say, agent: Any, status: int, code: str, stop_reason: str
) -> None:
    async with edge(ScriptedProvider(*[script] * 6), agent) as e:
        response, events = await both(e, session_id="s")
        problem = check(response, status, code)
        run = (await e.client.get(f"/v1/runs/{problem['run_id']}")).json()
        assert (run["status"], run["stop_reason"], run["error"]["code"]) == ("failed", stop_reason, code)
        assert run["output"] is None
        assert problem["detail"] == run["error"]["detail"]
        assert "a bug" not in response.text
        _, name, data = events[-1]
        assert name == "error"
        assert set(data) == {"problem"}
        assert (data["problem"]["status"], data["problem"]["code"]) == (status, code)
        assert data["problem"]["run_id"] != problem["run_id"]
        assert [m["role"] for m in (await e.client.get("/history/s")).json()["messages"]].count("user") == 2
        assert response.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.parametrize(
    ("scripts", "agent", "stop_reason"),
    [
        ([says("I will not.", stop="refusal")], react(), "refused"),
        ([CALL, says("what I know")], react(limits=Limits(iterations=1)), "max_iterations"),
        ([says("done")], react(), "completed"),
    ],
)
async def test_runs_with_an_answer(edge: Any, scripts: list[Say], agent: Any, stop_reason: str) -> None:
    async with edge(ScriptedProvider(*scripts * 2), agent) as e:
        response, events = await both(e)
        assert response.status_code == 200
        assert response.json()["metadata"]["stop_reason"] == stop_reason
        assert events[-1][1] == "done"
        assert events[-1][2]["metadata"]["stop_reason"] == stop_reason
        assert events[-1][2]["result"] == response.json()["response"]


@pytest.mark.parametrize(
    ("script", "agent", "stop_reason", "output"),
    [
        ([DOWN], react(fallback_reply="Sorry."), "providers_unavailable", "Sorry."),
        ([DOWN], react(fallback_reply='{"n": 0}', output_schema=SCHEMA), "providers_unavailable", {"n": 0}),
        ([*says("half")[:1], DOWN], react(fallback_reply="Sorry."), "providers_unavailable", "Sorry."),
        ([asyncio.Event()], react(limits=Limits(timeout=0.1), fallback_reply="Sorry."), "timeout", "Sorry."),
    ],
)
async def test_runs_that_are_answered_without_the_model(
    edge: Any, script: Say, agent: Any, stop_reason: str, output: Any
) -> None:
    async with edge(ScriptedProvider(*[script] * 6), agent) as e:
        response, events = await both(e, session_id="s")
        assert response.status_code == 200
        answer = response.json()
        assert answer["response"] == output
        assert (answer["metadata"]["degraded"], answer["metadata"]["cached"]) == (True, False)
        assert answer["metadata"]["stop_reason"] == stop_reason
        run = (await e.client.get(f"/v1/runs/{answer['run_id']}")).json()
        assert (run["status"], run["degraded"], run["output"], run["error"]) == ("succeeded", True, output, None)
        _, name, done = events[-1]
        assert (name, done["metadata"]["degraded"], done["result"]) == ("done", True, answer["response"])
        after = [name for _, name, _ in events]
        text = ""
        for _, name, data in events:
            text = "" if name == "reset" else text + (data["text"] if name == "chunk" else "")
        assert text == agent.fallback_reply, after
        roles = [m["role"] for m in (await e.client.get("/history/s")).json()["messages"]]
        assert roles == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("path", "body"), [("/chat", {"message": "x"}), ("/agent", {"question": "x"}), ("/agents/helper", {"input": "x"})]
)
async def test_the_callers_own_time(edge: Any, path: str, body: dict[str, Any]) -> None:
    async with edge(ScriptedProvider([asyncio.Event()], [asyncio.Event()])) as e:
        problem = check(await e.client.post(path, json=body | {"timeout": 0.1}), 504, "timeout")
        run = (await e.client.get(f"/v1/runs/{problem['run_id']}")).json()
        assert (run["status"], run["stop_reason"]) == ("failed", "timeout")


async def test_a_run_that_queues_for_too_long(edge: Any) -> None:
    gate = asyncio.Event()
    async with edge(ScriptedProvider([gate, *says("first")])) as e:
        first = asyncio.create_task(e.ask(session_id="s"))
        await until(lambda: e.provider.requests)
        response, events = await both(e, session_id="s", timeout=0.1)
        check(response, 504, "timeout")
        assert [name for _, name, _ in events] == ["start", "error"]
        assert events[-1][2]["problem"]["code"] == "timeout"
        gate.set()
        assert (await first)["response"] == "first"
        assert len(e.provider.requests) == 1


async def test_a_reset_cancels_what_runs_and_what_waits(edge: Any) -> None:
    async with edge(ScriptedProvider([asyncio.Event()])) as e:
        body = {"message": "x", "session_id": "s"}
        running = asyncio.create_task(e.client.post("/chat", json=body))
        await until(lambda: e.provider.requests)
        waiting = asyncio.create_task(e.client.post("/chat/stream", json=body))
        while len((await e.client.get("/v1/runs")).json()["data"]) < 2:
            pass
        assert (await e.client.post("/reset", json={"session_id": "s"})).status_code == 204
        check(await running, 409, "run_cancelled")
        assert [name for _, name, _ in frames((await waiting).content)] == ["start", "error"]
        assert frames((await waiting).content)[-1][2]["problem"]["code"] == "run_cancelled"
        assert len(e.provider.requests) == 1


async def test_a_drain_hands_on_what_does_not_end(edge: Any) -> None:
    async with edge(ScriptedProvider(*[[asyncio.Event()]] * 2)) as e:
        call = asyncio.create_task(e.client.post("/chat", json={"message": "x"}))
        await until(lambda: e.provider.requests)
        await e.runs.worker.drain(0.8)
        problem = check(await call, 503, "not_ready")
        assert "goes on" in problem["detail"]
        (run,) = (await e.client.get("/v1/runs")).json()["data"]
        assert (run["status"], run["stop_reason"], run["error"]) == ("queued", None, None)
        assert run["id"] in problem["detail"]
        for path in ("/chat", "/chat/stream", "/chat/async"):
            check(await e.client.post(path, json={"message": "x"}), 503, "not_ready")


async def test_a_fault_before_there_is_a_run(edge: Any) -> None:
    class Broken:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            if name == "start":
                raise RuntimeError("a bug of ours")
            return getattr(self._store, name)

    async with edge(ScriptedProvider(), through=Broken) as e:
        for path in ("/chat", "/chat/stream"):
            response = await e.client.post(path, json={"message": "x"})
            problem = check(response, 500, "internal")
            assert "a bug of ours" not in response.text
            assert "run_id" not in problem


async def test_turns_posted_to_one_session_at_once_run_in_the_order_of_its_history(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says(f"answer {n}", pieces=3) for n in range(80)]), concurrency=3) as e:
        for number in range(10):
            answers = await asyncio.gather(*(e.ask(f"question {n}", session_id=f"s{number}") for n in range(8)))
            messages = (await e.client.get(f"/history/s{number}")).json()["messages"]
            assert [m["role"] for m in messages] == ["user", "assistant"] * 8
            assert [m["content"] for m in messages[1::2]] == [f"answer {8 * number + n}" for n in range(8)]
            said = {answer["run_id"]: answer["response"] for answer in answers}
            assert said == {m["run_id"]: m["content"] for m in messages[1::2]}
            for turn in range(8):
                assert len(e.provider.requests[8 * number + turn].messages) == 2 * turn + 1


def test_every_code_of_a_refusal_has_a_status() -> None:
    assert set(get_args(RequestCode)) <= set(STATUS) == set(TITLES)


async def test_a_run_that_ends_before_its_caller_hears_that_it_began(edge: Any) -> None:
    class Late:
        """Answers `start` when the run is over."""

        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def start(self, principal: Any, run: Any, *, slot: bool) -> Any:
            accepted = await self._store.start(principal, run, slot=False)
            while (await self._store.run(principal, run.id)).finished_at is None:
                pass
            return accepted

    async with edge(ScriptedProvider(*[says("ok")] * 2), through=Late) as e:
        response, events = await both(e)
        assert response.json()["response"] == "ok"
        assert [name for _, name, _ in events] == ["start", "chunk", "done"]
