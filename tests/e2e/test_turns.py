"""Turns against a provider on the wire: tools, text as it comes, sessions side by side and turns in line."""

from __future__ import annotations

import asyncio

from tests.e2e.conftest import KEY
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import APIS, ApiName, bodies, hangs, says
from tests.waiting import until


async def test_tool_turns_by_json_and_by_stream(service: Service, provider: StandIn) -> None:
    await asyncio.gather(*(_two_turns(service, provider, api) for api in APIS))


async def _two_turns(service: Service, provider: StandIn, api: ApiName) -> None:
    first, second, gate = f"{api}: what is 6 times 7?", f"{api}: and 21.5 - 30?", asyncio.Event()
    provider.script(
        first,
        says("Let me ", "see.", calls=[("one", "calculator", '{"expression": "6 * 7"}'), ("two", "clock", "{}")]),
        says("It is ", "42."),
    )
    provider.script(
        second,
        says(calls=[("three", "calculator", '{"expression": "21.5 - 30"}')]),
        says("It is ", gate, "-8.5 – “so”."),
    )
    answered = await service.chat(
        first, agent=api, session_id=f"s-{api}", context={"plan": "gold-4711"}, tags={"team": "x"}, include_steps=True
    )
    assert answered["response"] == "It is 42."
    about = answered["metadata"]
    cost = 0.000141 if api == "responses" else None
    assert (about["iterations"], about["stop_reason"], about["cost_usd"]) == (2, "completed", cost)
    assert about["usage"]["input_tokens"] == 20
    assert about["usage"]["output_tokens"] == 10
    assert [step["name"].split("/")[0] for step in about["steps"]] == [api, "calculator", "clock", api] or [
        step["name"].split("/")[0] for step in about["steps"]
    ] == [api, "clock", "calculator", api]
    asked = provider.asked(first)
    assert [call.api for call in asked] == [api, api]
    assert asked[0].headers.get("x-api-key") == KEY or asked[0].headers.get("authorization") == f"Bearer {KEY}", asked[
        0
    ].headers
    assert asked[0].system == asked[1].system == "Be brief and exact."
    assert "gold-4711" in asked[0].question
    assert asked[1].results["one"] == "42"
    assert asked[1].calls == ["one", "two"]

    async with service.stream(
        "POST", "/chat/stream", {"message": second, "agent": api, "session_id": f"s-{api}"}
    ) as frames:
        begun = await frames.until("chunk")
        assert frames.retry == "1000"
        assert [name for _, name, _ in begun] == ["start", "tool", "tool", "chunk"]
        assert begun[0][2]["session_id"] == f"s-{api}"
        started, finished = begun[1][2], begun[2][2]
        assert (started["status"], started["name"]) == ("started", "calculator")
        assert (finished["status"], finished["result"], finished["call_id"]) == ("ok", "-8.5", "three")
        assert begun[3][2]["text"] == "It is "
        gate.set()
        rest = await frames.rest()
    assert [name for _, name, _ in rest] == ["chunk", "done"]
    assert "It is " + rest[0][2]["text"] == rest[1][2]["result"] == "It is -8.5 – “so”."
    assert rest[1][2]["status"] == "succeeded"

    last = provider.asked(second)[-1]
    assert [text.rsplit("\n", 1)[-1] for text in last.texts("user")] == [first, second]
    assert last.calls == ["one", "two", "three"]
    assert set(last.results) == {"one", "two", "three"}
    assert "It is 42." in last.texts("assistant")
    history = (await service.json(f"/history/s-{api}"))["messages"]
    assert [message["role"] for message in history] == [
        "user", "assistant", "tool", "tool", "assistant", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    listed = await service.json(f"/v1/runs?session_id=s-{api}")
    assert [run["status"] for run in listed["data"]] == ["succeeded", "succeeded"]
    assert listed["data"][1]["tags"] == {"team": "x"}


async def test_twenty_sessions_at_once(service: Service, provider: StandIn) -> None:
    gate = asyncio.Event()
    for n in range(20):
        provider.script(
            f"session {n}",
            says(calls=[(f"c{n}", "calculator", f'{{"expression": "{n} * 1000"}}')], head=gate),
            says(f"answer {n}"),
        )
    asked = [
        asyncio.create_task(service.chat(f"session {n}", agent=APIS[n % 3], session_id=f"p{n}")) for n in range(20)
    ]
    await until(lambda: sum(len(provider.asked(f"session {n}")) for n in range(20)) == 20)
    gate.set()
    answers = await asyncio.gather(*asked)
    assert [answer["response"] for answer in answers] == [f"answer {n}" for n in range(20)]
    assert [answer["session_id"] for answer in answers] == [f"p{n}" for n in range(20)]
    for n in range(20):
        (_, last) = provider.asked(f"session {n}")
        assert last.results == {f"c{n}": str(n * 1000)}
        assert last.texts("user") == [f"session {n}"]


async def test_two_turns_of_one_session_run_one_after_the_other(service: Service, provider: StandIn) -> None:
    gate = asyncio.Event()
    provider.script("first", says("one", head=gate))
    provider.script("second", says("two"))
    first = asyncio.create_task(service.chat("first", session_id="line"))
    await provider.wait("first")
    second = asyncio.create_task(service.chat("second", session_id="line"))

    async def queued() -> bool:
        return len((await service.json("/v1/runs?session_id=line&status=queued"))["data"]) == 1

    await until(queued)
    assert not provider.asked("second")
    late = await service.post("/chat", {"message": "too late", "session_id": "line", "timeout": 0.2})
    assert (late.status_code, late.json()["code"]) == (504, "timeout")
    async with service.stream(
        "POST", "/chat/stream", {"message": "late", "session_id": "line", "timeout": 0.2}
    ) as frames:
        events = await frames.rest()
    assert [name for _, name, _ in events] == ["start", "error"]
    assert events[-1][2]["problem"]["code"] == "timeout"
    gate.set()
    assert ((await first)["response"], (await second)["response"]) == ("one", "two")
    (call,) = provider.asked("second")
    assert call.texts("user") == ["first", "second"]
    assert call.texts("assistant") == ["one"]

    for n in range(6):
        provider.script(f"q{n}", says(f"a{n}"))
    answers = await asyncio.gather(*(service.chat(f"q{n}", session_id="rush") for n in range(6)))
    assert [answer["response"] for answer in answers] == [f"a{n}" for n in range(6)]
    said = [message["content"] for message in (await service.json("/history/rush"))["messages"]]
    assert len(said) == 12
    assert [f"a{question[1]}" for question in said[::2]] == said[1::2]


async def test_the_last_call_may_not_use_tools(service: Service, provider: StandIn) -> None:
    for api in APIS:
        again = [says(calls=[(f"{api}{n}", "calculator", '{"expression": "1+1"}')]) for n in range(2)]
        provider.script(f"{api} again", *again, says("enough"))
    answers = await asyncio.gather(*(service.chat(f"{api} again", agent=f"twice-{api}") for api in APIS))
    for api, answer in zip(APIS, answers, strict=True):
        assert answer["response"] == "enough"
        assert answer["metadata"]["stop_reason"] == "max_iterations"
        asked = provider.asked(f"{api} again")
        assert [call.tool_choice for call in asked] == ["auto", "auto", "none"]
        assert asked[0].body["tools"] == asked[2].body["tools"]


async def test_what_tools_cannot_do_is_told_to_the_model(service: Service, provider: StandIn) -> None:
    """Arguments that do not parse or fit, a tool that is not there, one that fails."""
    for api in APIS:
        wrong = [
            (f"{api}-fit", "calculator", '{"expression": 7, "nonsense": true}'),
            (f"{api}-none", "teleport", '{"to": "Mars"}'),
            (f"{api}-zero", "calculator", '{"expression": "1 / 0"}'),
        ]
        if api != "anthropic":  # its stand-in writes the arguments as an object
            wrong.append((f"{api}-json", "calculator", '{"expression": '))
        provider.script(f"{api} wrong", says(calls=wrong), says("I see"))
    answers = await asyncio.gather(*(service.chat(f"{api} wrong", agent=api) for api in APIS))
    for api, answer in zip(APIS, answers, strict=True):
        assert answer["response"] == "I see"
        results = provider.asked(f"{api} wrong")[-1].results
        assert "teleport" in results[f"{api}-none"]
        assert "zero" in results[f"{api}-zero"]
        assert "expression" in results[f"{api}-fit"]
        assert api == "anthropic" or "JSON" in results[f"{api}-json"]
        events = await service.events(answer["run_id"])
        ended = {e["data"]["call_id"]: e["data"]["status"] for e in events if e["event"] == "tool.finished"}
        assert set(ended.values()) == {"error"}


async def test_a_tool_that_needs_a_person_waits_for_one(service: Service, provider: StandIn) -> None:
    """For each API: the launch waits, an approval lets it happen once, and the model is told what came of it."""
    for api in APIS:
        provider.script(f"{api} launch", says(calls=[(f"{api}-risk", "launch_rocket", "{}")]), says("It flies"))
        response = await service.post("/chat", {"message": f"{api} launch", "agent": api})
        assert response.status_code == 202, response.text
        waiting = response.json()
        assert (waiting["status"], waiting["metadata"]["stop_reason"]) == ("waiting", "approval_required")
        (asked,) = waiting["approvals"]
        assert (asked["name"], asked["arguments"], asked["risk"]) == ("launch_rocket", {}, "high")
        assert len(provider.asked(f"{api} launch")) == 1
        decided = await service.post(f"/v1/approvals/{asked['id']}", {"decision": "approve"})
        assert (decided.status_code, decided.json()["status"]) == (200, "approved")
        async with service.stream("GET", f"/v1/runs/{waiting['run_id']}/events") as frames:
            events = await frames.until("run.finished")
        assert events[-1][2]["output"] == "It flies"
        assert provider.asked(f"{api} launch")[-1].results[f"{api}-risk"] == "launched"


async def test_an_answer_in_one_json_document(service: Service, provider: StandIn) -> None:
    for api in APIS:
        use = (f"{api}-1", "calculator", '{"expression": "2 ** 10"}')
        provider.script(f"{api} whole", bodies("Well.", [use]), bodies("It is 1024."))
    answers = await asyncio.gather(*(service.chat(f"{api} whole", agent=api) for api in APIS))
    for api, answer in zip(APIS, answers, strict=True):
        assert answer["response"] == "It is 1024."
        assert provider.asked(f"{api} whole")[-1].results == {f"{api}-1": "1024"}


async def test_a_requests_timeout_ends_the_run_and_the_providers_socket(service: Service, provider: StandIn) -> None:
    for api in APIS:
        # The second is for the plain call in the time that was kept.
        provider.script(f"{api} mute", hangs(headers=False), hangs(headers=False))
        provider.script(f"{api} talks", hangs("Well, "), hangs("Well, "))

    async def by_json(api: ApiName) -> None:
        response = await service.post("/chat", {"message": f"{api} mute", "agent": api, "timeout": 1})
        problem = response.json()
        assert (response.status_code, problem["code"]) == (504, "timeout")
        assert response.headers["content-type"] == "application/problem+json"
        run = await service.json(f"/v1/runs/{problem['run_id']}")
        assert (run["status"], run["stop_reason"], run["error"]["code"]) == ("failed", "timeout", "timeout")
        assert (await service.events(run["id"]))[-1]["event"] == "run.finished"

    async def by_stream(api: ApiName) -> None:
        body = {"message": f"{api} talks", "agent": api, "timeout": 1}
        async with service.stream("POST", "/chat/stream", body) as frames:
            events = await frames.rest()
        assert [name for _, name, _ in events] == ["start", "chunk", "reset", "chunk", "error"]
        assert (events[-1][2]["problem"]["status"], events[-1][2]["problem"]["code"]) == (504, "timeout")

    await asyncio.gather(*map(by_json, APIS), *map(by_stream, APIS))
    async with asyncio.timeout(5):
        for api in APIS:
            for call in (*provider.asked(f"{api} mute"), *provider.asked(f"{api} talks")):
                await call.left.wait()


async def test_a_reset_ends_the_run_and_the_providers_socket(service: Service, provider: StandIn) -> None:
    provider.script("before", says("yes"))
    provider.script("stuck", hangs("Hmm"))
    provider.script("after", says("new"))
    await service.chat("before", session_id="r")
    stuck = asyncio.create_task(service.post("/chat", {"message": "stuck", "session_id": "r"}))
    (call,) = await provider.wait("stuck")
    waiting = asyncio.create_task(service.post("/chat", {"message": "never asked", "session_id": "r"}))

    async def queued() -> bool:
        return len((await service.json("/v1/runs?session_id=r&status=queued"))["data"]) == 1

    await until(queued)
    body = {"message": "nor asked", "session_id": "r"}
    async with service.stream("POST", "/chat/stream", body) as frames:
        assert (await service.post("/reset", {"session_id": "r"})).status_code == 204
        events = await frames.rest()
    assert [name for _, name, _ in events] == ["start", "error"]
    assert (events[-1][2]["problem"]["status"], events[-1][2]["problem"]["code"]) == (409, "run_cancelled")
    for response in await asyncio.gather(stuck, waiting):
        assert (response.status_code, response.json()["code"]) == (409, "run_cancelled")
        run = await service.json(f"/v1/runs/{response.json()['run_id']}")
        assert (run["status"], run["stop_reason"]) == ("cancelled", "cancelled")
    async with asyncio.timeout(5):
        await call.left.wait()
    assert await service.json("/history/r") == {"messages": []}
    assert (await service.chat("after", session_id="r"))["response"] == "new"
    assert provider.asked("after")[0].texts("user") == ["after"]
    assert (await service.post("/reset", {"session_id": "nobody's"})).status_code in (404, 422)


async def test_a_run_goes_on_when_its_client_leaves(service: Service, provider: StandIn) -> None:
    gate = asyncio.Event()
    provider.script("long", says("Once ", gate, "upon a time."))
    async with service.stream("POST", "/chat/stream", {"message": "long", "session_id": "gone"}) as frames:
        begun = await frames.until("chunk")
    run_id = begun[0][2]["run_id"]
    gate.set()
    async with service.stream("GET", f"/v1/runs/{run_id}/events", **{"Last-Event-ID": begun[-1][0] or ""}) as rest:
        events = await rest.rest()
    assert [name for _, name, _ in events][:2] == ["message.delta", "message.completed"]
    assert events[0][2]["text"] == "upon a time."
    assert events[-1][1] == "run.finished"
    assert not provider.asked("long")[0].left.is_set()
