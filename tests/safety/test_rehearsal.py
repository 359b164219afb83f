"""A shadow run asks nobody, so it does only what nobody need be asked about."""

from __future__ import annotations

from app.agent.decide import CallTools, decide
from app.domain.messages import ToolCall
from app.domain.provenance import Taint
from app.domain.tool_policy import Caps, Rule, ToolPolicy
from app.runs.shadows import rehearsed
from tests.agent.states import agent, asked, result, state, user
from tests.scripted import ScriptedToolbox, tool_spec
from tests.tools.calls import context

TOOLS = (
    tool_spec("free"),
    tool_spec("dear", risk="medium"),
    tool_spec("listed", risk="medium", policy=ToolPolicy(allow={"n": Rule(maximum=5)}, when_tainted="allow")),
    tool_spec("counted", policy=ToolPolicy(caps=Caps(calls=1))),
    tool_spec("writes", effect="write"),
)


async def ran(read: Taint, name: str, arguments: str = '{"n":1}') -> bool:
    toolbox = ScriptedToolbox()
    shadow, rehearsal = rehearsed(agent(tools=TOOLS, auto_approve="medium"), toolbox, lambda: read)
    await rehearsal.run(shadow.tool(name), ToolCall("c", name, arguments), context())
    return bool(toolbox.calls)


async def test_what_a_shadow_reads() -> None:
    contexts: tuple[Taint, ...] = ("clean", "tainted", "suspect")
    found = {spec.name: [await ran(read, spec.name) for read in contexts] for spec in TOOLS}
    assert found == {
        "free": [True, True, True],
        "dear": [True, False, False],
        "listed": [True, True, False],
        "counted": [False, False, False],
        "writes": [False, False, False],
    }
    assert not await ran("clean", "listed", '{"n":6}')


def test_a_shadow_asks_nobody() -> None:
    page = ToolCall("p", "free", "{}")
    calls = tuple(ToolCall(spec.name, spec.name, '{"n":1}') for spec in TOOLS)
    of, _ = rehearsed(agent(tools=TOOLS, auto_approve="medium"), ScriptedToolbox(), lambda: "suspect")
    read = result(page, "x", trust="untrusted", signals=("override",))
    run = state(user(), asked("m1", page), read, asked("m2", *calls), of=of)
    assert decide(run) == CallTools(calls=calls)
