"""The agents of the workspace, and every version of them that a run may still need."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.agents import Agent
from app.domain.errors import RequestError
from app.domain.stores import RunStore


class Agents:
    """Agents by name (the current version) and by version (also former ones, from storage)."""

    def __init__(self, *, current: Mapping[str, Agent], default: str, store: RunStore) -> None:
        self.current = dict(current)
        self.default = default
        self._store = store
        self._versions = {(agent.name, agent.version): agent for agent in self.current.values()}

    def get(self, name: str | None) -> Agent:
        """The agent of that name; the default one for None. Raises `RequestError` not_found, naming those there are."""
        agent = self.current.get(self.default if name is None else name)
        if agent is None:
            known = ", ".join(sorted(self.current))
            raise RequestError("not_found", f"There is no agent {name!r}. The agents are: {known}.")
        return agent

    async def version(self, tenant: str, name: str, version: str) -> Agent | None:
        """The definition that a run of that version uses."""
        agent = self._versions.get((name, version))
        if agent is None:
            agent = await self._store.agent(tenant, name, version)
            if agent is not None:
                self._versions[name, version] = agent
        return agent

    async def save(self, tenant: str) -> None:
        """Store every current definition under its version."""
        for agent in self.current.values():
            await self._store.save_agent(tenant, agent)
