"""Every way in which a provider fails, at every API: what the caller is told, what the run says of itself, what the session keeps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.conftest import SHUT
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import APIS, ApiName, Reply, breaks, fails, hangs, says, sends

UNAVAILABLE = (503, "providers_unavailable", "providers_unavailable")
REFUSED = (502, "provider_error", "error")

BEFORE_CONTENT: dict[str, tuple[Reply, str]] = {
    "429": (fails(429, retry_after="1"), "rate_limited"),
    "500": (fails(500), "server_error"),
    "503": (fails(503), "overloaded"),
    "529": (fails(529), "overloaded"),
    "401": (fails(401, "authentication_error"), "auth"),
    "404": (fails(404, "model_not_found"), "unknown_model"),
    "html": (sends(b"<html><body>Bad gateway</body></html>", content_type="text/html"), "stream_broken"),
    "html as a stream": (sends(b"<html>\n\n<body>\n\n</html>"), "stream_broken"),
    "frames that are not JSON": (sends(b"data: {nonsense\n\n", b"data: }\n\n"), "stream_broken"),
    "nothing": (sends(), "stream_broken"),
    "cut in the first frame": (breaks("x", frames=1, inside=True), "stream_broken"),
    "reset before text": (breaks("x", frames=1, end="reset"), "stream_broken"),
    "an early end before text": (breaks("x", frames=1, end="whole"), "stream_broken"),
    "no headers": (hangs(headers=False), "first_token_timeout"),
    "no first token": (hangs(), "first_token_timeout"),
}
"""How it fails, and the outcome of the attempt."""

AFTER_TEXT: dict[str, tuple[Reply, str]] = {
    "cut": (breaks("Half an", " answer"), "stream_broken"),
    "cut in a frame": (breaks("Half an", " answer", inside=True), "stream_broken"),
    "reset": (breaks("Half an", " answer", end="reset"), "stream_broken"),
    "an early end": (breaks("Half an", " answer", end="whole"), "stream_broken"),
    "silence": (hangs("Half an", " answer"), "idle_timeout"),
}

REFUSALS = {
    f"{status}": (fails(status, "invalid_request_error", "tools.0.name is wrong"), "bad_request")
    for status in (400, 413, 422)
}
ALL = BEFORE_CONTENT | AFTER_TEXT | REFUSALS


def _tries(case: str, *, alone: bool = True) -> int:
    """How often the target is asked."""
    outcome = ALL[case][1]
    if outcome.endswith("timeout"):
        return 3 if alone else 1
    return 1 if case in SHUT or case in REFUSALS else 3


def _agent(api: ApiName, case: str, mode: str) -> str:
    return f"{mode}-{case}-{api}" if case in SHUT else f"short-{api}"


def _expected(case: str) -> tuple[int, str, str]:
    return REFUSED if case in REFUSALS else UNAVAILABLE


@pytest.mark.long
@pytest.mark.parametrize("api", APIS)
async def test_every_turn_ends_as_the_table_says(service: Service, provider: StandIn, api: ApiName) -> None:
    await asyncio.gather(
        *(_json_turn(service, provider, api, case) for case in ALL),
        *(_streamed_turn(service, provider, api, case) for case in ALL),
    )


async def _json_turn(service: Service, provider: StandIn, api: ApiName, case: str) -> None:
    reply, outcome = ALL[case]
    question = f"{api}, json: {case}"
    session = f"json-{api}-{list(ALL).index(case)}"
    provider.script(question, *[reply] * _tries(case))
    agent = _agent(api, case, "json")
    response = await service.post("/chat", {"message": question, "agent": agent, "session_id": session})
    problem = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (*_expected(case)[:2], response.status_code), (
        case
    )
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == response.headers["x-request-id"]
    await _check_run(service, problem["run_id"], case, outcome)

    again = f"{question}, again"
    provider.script(again, says("all right"))
    answered = await service.chat(again, agent=agent, session_id=session)
    assert answered["response"] == "all right", case
    (call,) = provider.asked(again)
    assert "\n".join(call.texts("user")) == f"{question}\n{again}", case
    assert call.texts("assistant") == [], f"{case}: half an answer is no answer"


async def _streamed_turn(service: Service, provider: StandIn, api: ApiName, case: str) -> None:
    reply, outcome = ALL[case]
    question = f"{api}, streamed: {case}"
    provider.script(question, *[reply] * _tries(case))
    turn = {"message": question, "agent": _agent(api, case, "streamed")}
    async with service.stream("POST", "/chat/stream", turn) as frames:
        events = await frames.rest()
    names = [name for _, name, _ in events]
    assert (names[0], names[-1]) == ("start", "error"), case
    assert set(names[1:-1]) <= ({"chunk", "reset"} if case in AFTER_TEXT else set()), case
    resets = [n for n, name in enumerate(names) if name == "reset"]
    assert len(resets) == 2 or case in ("reset", *BEFORE_CONTENT, *REFUSALS), case
    shown = "".join(data["text"] for _, name, data in events[max(resets, default=0) :] if name == "chunk")
    assert "Half an answer".startswith(shown), case
    assert case != "silence" or shown == "Half an answer"
    problem = events[-1][2]["problem"]
    assert (problem["status"], problem["code"]) == _expected(case)[:2], case
    await _check_run(service, problem["run_id"], case, outcome)


async def _check_run(service: Service, run_id: str, case: str, outcome: str) -> None:
    _, code, stop_reason = _expected(case)
    run = await service.json(f"/v1/runs/{run_id}")
    assert (run["status"], run["stop_reason"], run["error"]["code"]) == ("failed", stop_reason, code), case
    assert (run["output"], run["finished_at"] is not None) == (None, True), case
    events = await service.events(run_id)
    names = [e["event"] for e in events if e["event"] != "message.reset"]
    tries = _tries(case)
    assert names == ["run.created", "run.started", *["usage.recorded"] * tries, "run.finished"], case
    assert {e["data"]["outcome"] for e in events if e["event"] == "usage.recorded"} == {outcome}, case
    assert events[-1]["data"]["error"]["code"] == code, case
    assert case not in REFUSALS or "tools.0.name is wrong" in run["error"]["detail"], case


async def test_the_next_in_the_chain_answers_where_nothing_was_shown(service: Service, provider: StandIn) -> None:
    async def turn(case: str) -> dict[str, Any]:
        first = [BEFORE_CONTENT[case][0]] * _tries(case, alone=False)
        provider.script(f"all: {case}", *first, *[fails(529)] * 3, says("from ", "the third"))
        agent = f"all-{case}" if case in SHUT else "all"
        answered = await service.chat(f"all: {case}", agent=agent, include_steps=True)
        assert answered["response"] == "from the third", case
        return answered

    before = await service.get("/metrics")
    for case, answered in zip(BEFORE_CONTENT, await asyncio.gather(*map(turn, BEFORE_CONTENT)), strict=True):
        tries = _tries(case, alone=False)
        asked = [call.api for call in provider.asked(f"all: {case}")]
        assert asked == ["responses"] * tries + ["chat"] * 3 + ["anthropic"], case
        steps = answered["metadata"]["steps"]
        assert [(s["name"].split("/")[0], s["status"]) for s in steps] == [
            *[("responses", BEFORE_CONTENT[case][1])] * tries,
            *[("chat", "overloaded")] * 3,
            ("anthropic", "ok"),
        ]
        assert (answered["metadata"]["iterations"], answered["metadata"]["degraded"]) == (1, False)
    moved = 'agent_llm_fallbacks_total{from="responses/model-1",reason="rate_limited",route="all",to="chat/model-2"}'
    assert moved not in before.text
    assert f"{moved} 1.0\n" in (await service.get("/metrics")).text


async def test_no_other_is_asked_for_a_refusal(service: Service, provider: StandIn) -> None:
    async def turn(case: str) -> None:
        provider.script(f"alone: {case}", ALL[case][0])
        response = await service.post("/chat", {"message": f"alone: {case}", "agent": "all"})
        assert (response.status_code, response.json()["code"]) == _expected(case)[:2], case
        assert [call.api for call in provider.asked(f"alone: {case}")] == ["responses"], case

    await asyncio.gather(*map(turn, REFUSALS))


async def test_after_text_the_next_in_the_chain_answers_anew(service: Service, provider: StandIn) -> None:
    async def turn(case: str) -> None:
        question, tries = f"anew: {case}", _tries(case, alone=False)
        provider.script(question, *[AFTER_TEXT[case][0]] * tries, says("from ", "the second"))
        turn = {"message": question, "agent": "all", "session_id": f"anew-{list(ALL).index(case)}"}
        async with service.stream("POST", "/chat/stream", turn) as frames:
            events = await frames.rest()
        assert [call.api for call in provider.asked(question)] == ["responses"] * tries + ["chat"], case
        texts: dict[str, str] = {}
        for _, name, data in events:
            if name == "chunk":
                texts[data["message_id"]] = texts.get(data["message_id"], "") + data["text"]
            elif name == "reset":
                texts.pop(data["message_id"], None)
        assert list(texts.values()) == ["from the second"], case
        assert (events[-1][1], events[-1][2]["result"]) == ("done", "from the second"), case
        history = await service.json(f"/history/{turn['session_id']}")
        assert [(m["role"], m["content"]) for m in history["messages"]] == [
            ("user", question),
            ("assistant", "from the second"),
        ], case

    await asyncio.gather(*map(turn, AFTER_TEXT))


async def test_the_whole_call_has_a_limit_of_its_own(service: Service, provider: StandIn) -> None:
    """An answer that trickles in within every other time, and a chain whose targets are asked in vain one after another."""
    drip = [asyncio.Event() for _ in range(40)]
    provider.script("drip", says(*(piece for event in drip for piece in ("x", event))))
    trickling = asyncio.create_task(service.post("/chat", {"message": "drip", "agent": "hurried"}))
    (call,) = await provider.wait("drip")
    for event in drip:
        event.set()
        await asyncio.wait([trickling], timeout=0.1)
    response = await trickling
    assert (response.status_code, response.json()["code"]) == (503, "providers_unavailable")
    assert await _outcomes(service, response.json()["run_id"]) == ["total_timeout"]
    async with asyncio.timeout(5):
        await call.left.wait()

    provider.script("mute", *(hangs() for _ in range(3)))
    response = await service.post("/chat", {"message": "mute", "agent": "hurried"})
    assert (response.status_code, response.json()["code"]) == (503, "providers_unavailable")
    *others, last = await _outcomes(service, response.json()["run_id"])
    assert (set(others), last) == ({"first_token_timeout"}, "total_timeout")


async def _outcomes(service: Service, run_id: str) -> list[str]:
    return [e["data"]["outcome"] for e in await service.events(run_id) if e["event"] == "usage.recorded"]


async def test_a_provider_that_is_not_there(service: Service, provider: StandIn) -> None:
    """No connection at all is a failure like any other: the second in the chain answers."""
    provider.script("nobody home", says("here I am"))
    answered = await service.chat("nobody home", agent="away", include_steps=True)
    assert answered["response"] == "here I am"
    assert [s["status"] for s in answered["metadata"]["steps"]] == ["connect", "connect", "connect", "ok"]
