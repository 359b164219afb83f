"""Shadow runs: what another variant would have said to the same, found out in the background and told to nobody.

A shadow repeats a run in a hidden session of its own, at the lowest priority, without a caller and without a callback. It
changes nothing outside: a tool that does more than read is not run, nor is one that a person would have to allow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.experiments import Experiment, Variant
from app.domain.hints import Hints
from app.domain.messages import ToolCall
from app.domain.observers import RunObserver
from app.domain.principals import Principal
from app.domain.provenance import Taint
from app.domain.sessions import Base, SessionStore
from app.domain.stores import Accepted, NewRun, Owned, RunStore
from app.domain.tools import Toolbox, ToolContext, ToolResult, ToolSpec
from app.runs.agents import Agents, Render
from app.runs.ids import new_id
from app.runs.record import raw_text
from app.safety import policy

log = logging.getLogger(__name__)

LOWEST = -1_000
"""Below every priority that a request may have."""
MOST_MAKING = 8
"""Shadows that a process makes at once; what comes above that has none."""
MOST_LIVE = 8
"""Shadows that are not over, in all processes, above which no other is made."""
SIMULATED = "This is a rehearsal: {} was not run and nothing has changed. Go on as if it had succeeded."


class Shadows:
    """Makes shadows of runs as they begin. A real run never waits for its shadow, and never learns of its failures."""

    def __init__(
        self,
        *,
        store: RunStore,
        sessions: SessionStore,
        agents: Agents,
        render: Render,
        broadcast: Hints,
        observer: RunObserver,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._agents = agents
        self._render = render
        self._broadcast = broadcast
        self._observer = observer
        self._making: set[asyncio.Task[None]] = set()

    def consider(self, owned: Owned, created: ev.RunCreated, history: Base) -> None:
        """A run begins, after those messages: it gets its shadow where its agent's experiment says so. Once a run."""
        if owned.attempt > 1 or created.shadow_of is not msgspec.UNSET or created.resumed_from is not None:
            return
        experiment = self._agents.experiments.get(owned.agent)
        if experiment is None or experiment.shadow is None or not experiment.shadows(owned.run_id):
            return
        if len(self._making) >= MOST_MAKING:
            self._observer.shadowed(experiment.name, "dropped")
            return
        making = asyncio.create_task(self._make(experiment, experiment.shadow, owned, created, history))
        self._making.add(making)
        making.add_done_callback(self._making.discard)

    async def _make(
        self, experiment: Experiment, shadow: Variant, owned: Owned, created: ev.RunCreated, history: Base
    ) -> None:
        try:
            made = await self._store.shadows_welcome(MOST_LIVE) and await self._start(
                experiment, shadow, owned, created, history
            )
            self._observer.shadowed(experiment.name, "started" if made else "dropped")
        except (DatabaseUnavailable, RequestError) as error:
            log.warning("a shadow run was not made", extra={"run_id": owned.run_id, "reason": type(error).__name__})
            self._observer.shadowed(experiment.name, "error")
        except Exception:
            log.exception("a shadow run was not made", extra={"run_id": owned.run_id})
            self._observer.shadowed(experiment.name, "error")

    async def _start(
        self, experiment: Experiment, shadow: Variant, owned: Owned, created: ev.RunCreated, history: Base
    ) -> bool:
        agent = shadow.agent
        _, unused = self._render(agent, created.context or {})
        session_id = new_id("ses")
        if not await self._sessions.shadow(owned.tenant, owned.run_id, session_id, history):
            return False
        copy = msgspec.structs.replace(
            created,
            run_id=new_id("run"),
            session_id=session_id,
            agent_version=agent.version,
            message_id=new_id("msg"),
            preface=msgspec.json.encode(unused).decode() if unused else None,
            user_id=owned.user_id,
            experiments={experiment.name: shadow.name},
            shadow_of=owned.run_id,
        )
        run = NewRun(
            id=copy.run_id,
            session_id=session_id,
            user_id=owned.user_id,
            agent=agent.name,
            agent_version=agent.version,
            tags={},
            created=msgspec.json.encode(copy),
            priority=LOWEST,
            experiments={experiment.name: shadow.name},
            shadow_of=owned.run_id,
        )
        accepted = await self._store.start(Principal(tenant=owned.tenant), run, slot=False)
        self._broadcast.queued()
        return isinstance(accepted, Accepted)

    async def aclose(self) -> None:
        """What is being made is made."""
        if self._making:
            await asyncio.wait(set(self._making))


class Rehearsal:
    """The `Toolbox` of a shadow run: reads as that agent may, and does nothing else. `read` is what its model has read so far."""

    def __init__(self, *, toolbox: Toolbox, agent: Agent, read: Callable[[], Taint]) -> None:
        self._toolbox = toolbox
        self._agent = agent
        self._read = read

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The wrapped toolbox's."""
        return self._toolbox.specs(names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """The wrapped toolbox's result for what only reads, needs no person and is not counted; else a sentence that it was not run."""
        if spec is None or (spec.effect == "read" and self._runs(spec.name, call.arguments)):
            return await self._toolbox.run(spec, call, context)
        said = raw_text(SIMULATED.format(spec.name))
        return ToolResult(call_id=call.id, name=call.name, status="ok", result=said)

    def _runs(self, name: str, arguments: str) -> bool:
        spec = self._agent.tool(name)
        if spec is None or spec.rules.caps is not None:
            return False
        scopes = frozenset(self._agent.scopes)  # a caller without them was refused before
        return policy.judge(self._agent, spec, arguments, self._read(), scopes).outcome == "allow"


def rehearsed(agent: Agent, toolbox: Toolbox, read: Callable[[], Taint]) -> tuple[Agent, Toolbox]:
    """The agent and the tools of a shadow run: nobody is asked for an approval, since nothing that needs one is run."""
    tools = tuple(
        msgspec.structs.replace(spec, policy=msgspec.structs.replace(spec.rules, when_tainted="allow"))
        for spec in agent.tools
    )
    shadow = msgspec.structs.replace(agent, auto_approve="critical", tools=tools)
    return shadow, Rehearsal(toolbox=toolbox, agent=agent, read=read)
