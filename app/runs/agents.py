"""The agents of the workspace, and every version of them that a run may still need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from app.domain.agents import Agent
from app.domain.errors import RequestError
from app.domain.experiments import CONTROL, Experiment
from app.domain.principals import DEFAULT_TENANT
from app.domain.stores import RunStore

Render = Callable[[Agent, Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""The system text of an agent for a caller's context, and what of the context it left over."""


class Chosen(msgspec.Struct, frozen=True):
    """The agent that answers somebody, and the variants by experiment that made it so."""

    agent: Agent
    experiments: dict[str, str] = {}


class Agents:
    """Agents by name (the current version) and by version (also former ones, from storage).

    `experiments` are by agent. `at_once`: how many runs of an agent may be executed at a time; only those that have such a limit.
    """

    def __init__(
        self, *, current: Mapping[str, Agent], default: str, store: RunStore, experiments: Iterable[Experiment] = ()
    ) -> None:
        self.current = dict(current)
        self.at_once = _at_once(current)
        self.default = default
        self.experiments = {experiment.agent: experiment for experiment in experiments}
        self._store = store
        self._versions = {(agent.name, agent.version): agent for agent in self.definitions()}

    def get(self, name: str | None) -> Agent:
        """The agent of that name; the default one for None. Raises `RequestError` not_found, naming those there are."""
        agent = self.current.get(self.default if name is None else name)
        if agent is None:
            known = ", ".join(sorted(self.current))
            raise RequestError("not_found", f"There is no agent {name!r}. The agents are: {known}.")
        return agent

    def choose(self, name: str | None, *, user_id: str | None, session_id: str) -> Chosen:
        """As `get`, but for that user in that session: in the variant that is theirs."""
        agent = self.get(name)
        experiment = self.experiments.get(agent.name)
        if experiment is None or not experiment.variants:
            return Chosen(agent)
        variant = experiment.variant(user_id, session_id)
        if variant is None:
            return Chosen(agent, {experiment.name: CONTROL})
        return Chosen(variant.agent, {experiment.name: variant.name})

    async def version(self, tenant: str, name: str, version: str) -> Agent | None:
        """The definition that a run of that version uses."""
        agent = self._versions.get((name, version))
        if agent is None:
            agent = await self._store.agent(tenant, name, version)
            if agent is None and tenant != DEFAULT_TENANT:  # as whose the workspace's are kept: every tenant has them
                agent = await self._store.agent(DEFAULT_TENANT, name, version)
            if agent is not None:
                self._versions[name, version] = agent
        return agent

    async def save(self, tenant: str) -> None:
        """Store every current definition under its version, those of variants too."""
        for agent in self.definitions():
            await self._store.save_agent(tenant, agent)

    async def replace(self, tenant: str, current: Mapping[str, Agent], experiments: Iterable[Experiment]) -> None:
        """From now on runs begin with these; those that have begun keep their version."""
        new = Agents(current=current, default=self.default, store=self._store, experiments=experiments)
        await new.save(tenant)
        self.current, self.experiments, self.at_once = new.current, new.experiments, new.at_once
        self._versions |= new._versions

    def definitions(self) -> Iterator[Agent]:
        """Every current definition, those of variants and shadows too."""
        yield from self.current.values()
        for experiment in self.experiments.values():
            yield from (variant.agent for variant in experiment.variants)
            if experiment.shadow is not None:
                yield experiment.shadow.agent


def _at_once(agents: Mapping[str, Agent]) -> dict[str, int]:
    return {name: agent.concurrency for name, agent in agents.items() if agent.concurrency is not msgspec.UNSET}
