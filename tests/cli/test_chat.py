"""Conversations in the terminal: with a service of our own, over HTTP, through breaks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from app.cli.chat import Chat
from app.cli.chat_input import Interrupted
from app.cli.chat_own import OwnService, own_service
from app.cli.chat_service import RunningService, running_service
from app.domain.approvals import ApprovalFilter
from app.domain.errors import RequestError, SteadyhandError
from app.domain.models import TextDelta
from app.domain.principals import ANONYMOUS
from app.domain.stores import RunFilter
from app.workspace.load import SHIPPED, load_workspace
from tests.api.edge import listening, open_edge
from tests.cli.chatting import Lines, approval, created, cutting, delta, finished, plain_screen, talk, waiting
from tests.scripted import Say, ScriptedProvider, says
from tests.waiting import until


def own(edge: Any) -> OwnService:
    return OwnService(
        runs=edge.runs.service,
        sessions=edge.runs.sessions,
        approvals=edge.runs.approvals,
        name="test",
        lost=asyncio.get_running_loop().create_future(),
    )


async def test_a_conversation_with_tools_empty_lines_and_commands(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", '{"a":1}')), says("It is\ndone.", pieces=4), says("Bye."))
    async with open_edge(database, provider) as edge:
        answered, out, errors = await talk(
            own(edge), "go", "", "  ", "/help", "/nonsense", "/etc/passwd?", "/quit", "no"
        )
        assert answered
        assert '✓ echo(a=1) → {"a":1}\nIt is\ndone.\n' in out
        assert "session s1" in out
        assert "/reset" in out
        assert errors == "error: there is no command /nonsense; /help shows those there are\n"
        assert [request.messages[-1].content for request in provider.requests][-1] == "/etc/passwd?"
        assert len(provider.requests) == 3


async def test_reset_begins_anew(database: str) -> None:
    provider = ScriptedProvider(says("one"), says("two"))
    async with open_edge(database, provider) as edge:
        await talk(own(edge), "/reset", "first", "/reset", "second")
        assert [m.content for m in provider.requests[1].messages] == ["second"]


async def test_ctrl_c_in_process_stops_the_run_and_the_chat_goes_on(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("later"))
    async with open_edge(database, provider) as edge:
        screen, out, _ = plain_screen()
        lines = Lines("work", "again", Interrupted())
        chat = Chat(service=own(edge), screen=screen, typed=lines, agent=None, session_id="s1")
        talking = asyncio.create_task(chat.run(known=False))
        await edge.toolbox.started.wait()
        lines.pressed.set()
        await talking
        runs = await edge.runs.service.runs(ANONYMOUS, RunFilter())
        assert [(run.status, run.error.code if run.error else None) for run in runs] == [
            ("succeeded", None), ("cancelled", "run_cancelled"),
        ]  # fmt: skip
        assert "stopped\n\nlater\n" in out.getvalue()


async def test_an_unknown_agent_ends_it_and_a_bad_session_does_not(database: str) -> None:
    async with open_edge(database, ScriptedProvider()) as edge:
        with pytest.raises(RequestError, match="There is no agent 'nobody'"):
            await talk(own(edge), agent="nobody")
        async with listening(edge.app) as port, running_service(f"127.0.0.1:{port}/") as service:
            with pytest.raises(SteadyhandError, match=r"there is no agent 'no/body' at http.*; there are: helper"):
                await talk(service, agent="no/body")
            screen, _, errors = plain_screen()
            chat = Chat(service=service, screen=screen, typed=Lines("hi"), agent=None, session_id="bad id")
            assert not await chat.run(known=True)
            assert errors.getvalue().startswith("error: ")
            assert errors.getvalue().count("\n") == 1


async def test_over_http_it_is_the_same_conversation(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", '{"a":1}')), says("Done."), says("Two."))
    async with (
        open_edge(database, provider) as edge,
        listening(edge.app) as port,
        running_service(f"http://127.0.0.1:{port}") as service,
    ):
        answered, out, errors = await talk(service, "go", "/reset", "again")
        assert (answered, errors) == (True, "")
        assert '✓ echo(a=1) → {"a":1}\nDone.\n' in out
        assert out.rstrip().endswith("Two.")
        assert [m.content for m in provider.requests[-1].messages] == ["again"]
        assert await service.messages("s1") == 2
        assert await service.messages("nobody-knows") == 0


RISKY = says("", ("c1", "risky", '{"all":true}'))


@pytest.mark.parametrize("where", ["in process", "over HTTP"])
async def test_calls_that_a_person_decides_on(database: str, where: str) -> None:
    provider = ScriptedProvider(RISKY, says("Done."), RISKY, says("Then not."), RISKY, says("Less."), RISKY)
    async with (
        open_edge(database, provider) as edge,
        listening(edge.app) as port,
        running_service(f"http://127.0.0.1:{port}") as running,
    ):
        service = own(edge) if where == "in process" else running
        lines = ("go", "approve", "go", "deny not today", "go", "edit", '{"all": false}')
        answered, out, errors = await talk(service, *lines)
        _, stopped, _ = await talk(service, "go", Interrupted())
        (run, *_) = await edge.runs.service.runs(ANONYMOUS, RunFilter())
        resolved = await edge.runs.approvals.approvals(ANONYMOUS, ApprovalFilter())
    assert (answered, errors) == (True, "")
    assert out.count('risky wants to run (risk high) with\n  {\n    "all": true\n  }\n') == 3
    assert '✓ risky(all=true) → {"all":true}\nDone.\n' in out
    assert "✗ risky(all=true) denied" in out
    assert '✓ risky(all=false) → {"all":false}\nLess.\n' in out
    assert [call.arguments for call in edge.toolbox.calls] == ['{"all":true}', '{"all":false}']
    assert (run.status, stopped.endswith("stopped\n\n")) == ("cancelled", True)
    assert [(one.status, one.comment) for one in resolved] == [
        ("cancelled", None),
        ("approved", None),
        ("denied", "not today"),
        ("approved", None),
    ]


async def test_ctrl_c_over_http_stops_the_run_and_the_chat_goes_on(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("later"))
    async with open_edge(database, provider) as edge, listening(edge.app) as port:
        async with running_service(f"http://127.0.0.1:{port}") as service:
            screen, out, _ = plain_screen()
            lines = Lines("work", "again")
            chat = Chat(service=service, screen=screen, typed=lines, agent=None, session_id="s1")
            talking = asyncio.create_task(chat.run(known=False))
            await until(lambda: service._asked is not None)
            await edge.toolbox.started.wait()
            lines.pressed.set()
            await talking
        runs = await edge.runs.service.runs(ANONYMOUS, RunFilter())
        assert [run.status for run in runs] == ["succeeded", "cancelled"]
        assert "stopped\n\nlater\n" in out.getvalue()


async def test_a_connection_that_breaks_in_the_middle_loses_and_repeats_nothing(database: str) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    whole = says("eins zwei – drei 🙂 vier")
    script: Say = [
        gates[0],
        TextDelta("eins "),
        gates[1],
        TextDelta("zwei – "),
        gates[2],
        TextDelta("drei 🙂 vier"),
        whole[-1],
    ]
    async with open_edge(database, ScriptedProvider(script)) as edge, listening(edge.app) as port:
        marks = [(b"eins ", gates[1]), ("zwei – ".encode(), gates[2])]
        async with (
            cutting(port, marks, gates[0]) as (proxy, through),
            running_service(f"http://127.0.0.1:{through}") as service,
        ):
            answered, out, errors = await talk(service, "count")
    assert (answered, errors) == (True, "")
    assert "eins zwei – drei 🙂 vier\n" in out
    assert out.count("eins") == out.count("drei") == 1
    assert proxy.last_ids == ["", "2.5", "2.12"]


async def test_a_stream_that_ends_while_the_run_waits_goes_on_where_it_was() -> None:
    """As one does that has reached the maximum age of a stream."""
    asked: list[str | None] = []
    posted: list[Any] = []

    def frames(*items: Any) -> bytes:
        return b"".join(b"id: %d\nevent: %b\ndata: %b\n\n" % (n, one.name.encode(), one.payload) for n, one in items)

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/chat/stream":
            return httpx2.Response(200, content=b'id: 1\nevent: start\ndata: {"run_id":"run_9"}\n\n')
        if request.url.path == "/v1/approvals/apr_1":
            posted.append(json.loads(request.content))
            return httpx2.Response(200, json={})
        if request.url.path != "/v1/runs/run_9/events":
            return httpx2.Response(200, json=[])
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:
            requested, parked = waiting(approval(arguments={"n": 1}))
            return httpx2.Response(200, content=frames((1, created()), (4, requested), (5, parked)) + b": goodbye\n\n")
        if len(asked) == 2:
            return httpx2.Response(200, content=b": alive\n\n: goodbye\n\n")
        return httpx2.Response(200, content=frames((9, finished(output="Paid."))))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        service = RunningService(http=http, url="there")
        answered, out, errors = await talk(service, "pay", "edit", '{"n": 2}')
    assert (answered, errors) == (True, "")
    assert posted == [{"decision": "approve", "arguments": {"n": 2}}]
    assert asked == [None, "5", "5"]
    assert out.endswith("Paid.\n\n")


async def test_a_service_that_stays_away_is_given_up_with_the_runs_id() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/agents":
            return httpx2.Response(200, json=[])
        if request.url.path == "/chat/stream":
            return httpx2.Response(200, content=b'id: 1\nevent: start\ndata: {"run_id":"run_9"}\n\n')
        raise httpx2.ConnectError("gone")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        service = RunningService(http=http, url="http://there", give_up=0.05)
        answered, _, errors = await talk(service, "hello")
    assert not answered
    assert errors == "error: lost http://there (gone); the answer belongs to run run_9\n"


async def test_an_id_that_the_service_does_not_know_any_more_falls_back_to_the_last_event() -> None:
    asked: list[str | None] = []
    rest = finished(output="Hello")

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/chat/stream":
            return httpx2.Response(200, content=b'id: 1\nevent: start\ndata: {"run_id":"run_9"}\n\n')
        if request.url.path != "/v1/runs/run_9/events":
            return httpx2.Response(200, json=[])
        asked.append(request.headers.get("last-event-id"))
        if asked[-1] is None:
            text = delta("m", 0, "Hel").payload
            return httpx2.Response(200, content=b"id: 2.3\nevent: message.delta\ndata: %b\n\n" % text)
        if asked[-1] == "2.3":
            return httpx2.Response(400, json={"code": "invalid_cursor", "detail": "no"})
        text = delta("m", 0, "Hello").payload
        frames = b"id: 2.5\r\nevent: message.delta\r\ndata: %b\r\n\r\n" % text
        return httpx2.Response(200, content=frames + b"id: 9\nevent: run.finished\ndata: %b\n\n" % rest.payload)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        answered, out, errors = await talk(RunningService(http=http, url="there"), "hello")
    assert (answered, errors) == (True, "")
    assert asked == [None, "2.3", "2"]
    assert "\nHello\n" in out
    assert "HelHello" not in out


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx2.Response(502, text="<html>bad gateway</html>"), "HTTP 502"),
        (httpx2.Response(200, text="<html>hello</html>"), "does not answer like"),
        (httpx2.Response(200, json={"agents": []}), "does not answer like"),
        (httpx2.ConnectError("refused"), "cannot reach http://there: refused"),
    ],
)
async def test_what_is_no_service_is_said_in_one_line(response: Any, told: str) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        if isinstance(response, Exception):
            raise response
        return httpx2.Response(response.status_code, content=response.content)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        with pytest.raises(SteadyhandError, match=told):
            await talk(RunningService(http=http, url="there"))


async def test_in_process_beside_others_of_the_same_database(database: str) -> None:
    workspace = load_workspace(SHIPPED, {"DATABASE_URL": database})
    async with own_service(workspace) as service, own_service(workspace) as other:
        for one in (service, other):
            answered, out, _ = await talk(one, "What is 12 * 7?")
            assert answered
            assert '✓ calculator(expression="12 * 7") → 84\n12 * 7 = 84\n' in out
        assert await other.messages("s1") == 8


async def test_a_service_of_our_own_that_loses_its_database_ends_the_chat(database: str) -> None:
    async with open_edge(database, ScriptedProvider()) as edge:
        service = own(edge)
        reading = asyncio.Event()

        class Silent(Lines):
            async def line(self, prompt: str | None = None) -> str | None:
                reading.set()
                await asyncio.Event().wait()
                return None

        screen, _, _ = plain_screen()
        chat = Chat(service=service, screen=screen, typed=Silent(), agent=None, session_id="s1")
        talking = asyncio.create_task(chat.run(known=False))
        await reading.wait()
        service.lost.set_exception(SteadyhandError("taken"))
        with pytest.raises(SteadyhandError, match="taken"):
            await talking
