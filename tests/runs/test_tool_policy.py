"""An agent's policy for its tools, in runs: scopes from birth on, allow-lists also for people, caps over a recovery."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.agents import Caching, versioned
from app.domain.errors import ProviderError
from app.domain.principals import SCOPES, Principal
from app.domain.tool_policy import Caps, Rule, ToolPolicy
from app.runs.service import StartRun
from app.storage.postgres.tool_uses import PostgresToolUses
from app.tools import tool
from app.tools.declare import declare
from app.tools.guarded import GuardedToolbox
from app.tools.toolbox import PythonToolbox
from tests.runs.asking import ANN, refused, waits
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says, tool_spec


def helper(**policy: Any) -> Any:
    return react(
        tools=(tool_spec("echo"), tool_spec("risky", risk="high", policy=ToolPolicy(**policy))), auto_approve="high"
    )


async def ended(p: Any, principal: Principal) -> tuple[Any, list[Any]]:
    started = await p.service.start(principal, StartRun(input="go"))
    end = await p.service.result(started)
    events = [ev.decode(stored) for stored in await p.events(started.run_id)]
    return end, [(e.status, e.result) for e in events if isinstance(e, ev.ToolFinished)]


async def test_a_run_has_the_scopes_that_it_was_born_with(start_process: Any) -> None:
    call = ("c1", "risky", "{}")
    answers = [says("", call), says("done")] * 3
    may = Principal(tenant="default", user="ann", scopes=frozenset({"runs", "tool:act", "tool:other"}))
    may_not = Principal(tenant="default", user="bob", scopes=frozenset({"runs"}))
    everything = Principal(tenant="default", user="eve", scopes=SCOPES)
    async with start_process(ScriptedProvider(*answers), helper(scope="tool:act")) as p:
        statuses = []
        for principal in (may, may_not, everything):
            end, ((status, text),) = await ended(p, principal)
            assert end.status == "succeeded"
            statuses.append(status)
            if principal is may_not:
                assert b"that takes the scope tool:act" in bytes(text)
        assert statuses == ["ok", "denied", "ok"]
        (run,) = [run for run in await p.store.runs(may, _filter()) if run.user_id == "ann"]
        created = ev.decode((await p.events(run.id))[0])
        assert isinstance(created, ev.RunCreated)
        assert created.granted == ("tool:act",), "no others than its tools ask for"


async def test_who_resumes_a_run_lends_it_his_own_scopes(start_process: Any) -> None:
    down = ProviderError("server_error", "down", provider="scripted")
    call = ("c1", "risky", "{}")
    may = Principal(tenant="default", scopes=frozenset({"runs", "tool:act"}))
    may_not = Principal(tenant="default", scopes=frozenset({"runs"}))
    provider = ScriptedProvider([down], says("", call), says("done"))
    async with start_process(provider, helper(scope="tool:act")) as p:
        end, _ = await ended(p, may)
        assert end.status == "failed"
        (run,) = await p.store.runs(may, _filter())
        resumed = await p.service.resume(may_not, run.id)
        assert (await p.service.result(resumed)).status == "succeeded"
        finished = [e for s in await p.events(resumed.run_id) if isinstance(e := ev.decode(s), ev.ToolFinished)]
        assert [(e.status, e.trust) for e in finished] == [("denied", "trusted")]
        assert p.toolbox.calls == []


async def test_an_answer_that_took_a_scope_is_not_for_those_without(start_process: Any) -> None:
    may = Principal(tenant="default", scopes=frozenset({"runs", "tool:act"}))
    may_not = Principal(tenant="default", scopes=frozenset({"runs"}))
    provider = ScriptedProvider(says("secret"), says("nothing"))
    agent = helper(scope="tool:act")
    cached = versioned(msgspec.structs.replace(agent, cache=Caching(ttl=60)))
    async with start_process(provider, cached) as p:
        outputs = [(await ended(p, who))[0].output for who in (may, may, may_not)]
        assert outputs == ["secret", "secret", "nothing"]


def _filter() -> Any:
    from app.domain.stores import RunFilter

    return RunFilter(limit=10)


async def test_a_person_cannot_change_arguments_to_what_is_not_allowed(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "risky", '{"n":1}')), says("done"))
    agent = react(tools=(tool_spec("risky", risk="high", policy=ToolPolicy(allow={"n": Rule(maximum=5)})),))
    async with start_process(provider, agent) as p:
        started, waiting = await waits(p)
        approval = waiting.approvals[0].id
        assert await refused(p.approvals.decide(ANN, approval, "approve", {"n": 6}, None)) == "validation_error"
        await p.approvals.decide(ANN, approval, "approve", {"n": 5}, None)
        started.feed.resumed()
        assert (await p.service.result(started)).status == "succeeded"
        assert [call.arguments for call in p.toolbox.calls] == ['{"n":5}']


async def test_what_is_not_on_the_list_is_told_before_anybody_is_asked(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "risky", '{"n":6}')), says("done"))
    agent = react(tools=(tool_spec("risky", risk="high", policy=ToolPolicy(allow={"n": Rule(maximum=5)})),))
    async with start_process(provider, agent) as p:
        end, finished = await ended(p, ANN)
        assert end.status == "succeeded"
        assert finished[0][0] == "denied"
        assert b"n must be a plain number up to 5" in bytes(finished[0][1])


async def test_caps_hold_over_the_runs_of_a_user(start_process: Any) -> None:
    ran: list[str] = []

    @tool(risk="low", effect="write", returns="trusted")
    async def ring(who: str) -> str:
        """Rings."""
        ran.append(who)
        return "rang"

    entry = declare(ring)
    spec = msgspec.structs.replace(entry.spec, policy=ToolPolicy(caps=Caps(calls=3, calls_per_run=2)))
    calls = [(f"c{n}", "ring", f'{{"who":"{n}"}}') for n in range(3)]
    provider = ScriptedProvider(says("", *calls), says("done"), says("", *calls), says("done"))
    async with start_process(provider, react(tools=(spec,)), toolbox=_late()) as p:
        p.toolbox.inner = GuardedToolbox(
            toolbox=PythonToolbox(tools=[entry]), uses=PostgresToolUses(database=p.database)
        )
        _, first = await ended(p, ANN)
        _, second = await ended(p, ANN)
        assert sorted(status for status, _ in first) == ["denied", "ok", "ok"]
        assert sorted(status for status, _ in second) == ["denied", "denied", "ok"]
        assert len(ran) == 3


class _Late:
    """A toolbox that is made once the process has its database."""

    inner: Any = None

    def specs(self, names: Any) -> Any:
        return self.inner.specs(names)

    async def run(self, spec: Any, call: Any, context: Any) -> Any:
        return await self.inner.run(spec, call, context)


def _late() -> Any:
    return _Late()
