"""The agents of this service."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.api.authentication import ANY_KEY, SCOPE
from app.api.problems import responses
from app.api.schemas import AgentView
from app.api.targets import Targets
from app.domain.agents import Agent
from app.runs.service import RunService


@get(
    "/agents",
    opt={SCOPE: ANY_KEY},
    tags=["agents"],
    summary="List the agents",
    responses=responses("internal", "not_ready"),
)
async def list_agents(service: NamedDependency[RunService], targets: NamedDependency[Targets]) -> list[AgentView]:
    """Every agent that can be asked, by name."""
    return [_agent_view(agent, targets) for _, agent in sorted(service.agents.current.items())]


@get(
    "/agents/{name:str}",
    opt={SCOPE: ANY_KEY},
    tags=["agents"],
    summary="One agent",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_agent(
    name: FromPath[str], service: NamedDependency[RunService], targets: NamedDependency[Targets]
) -> AgentView:
    """What one agent is and whether it can be asked now."""
    return _agent_view(service.agents.get(name), targets)


def _agent_view(agent: Agent, targets: Targets) -> AgentView:
    return AgentView(
        name=agent.name,
        description=agent.description,
        kind=agent.kind,
        status=targets.status(agent.model),
        version=agent.version,
        tools=[tool.name for tool in agent.tools],
    )


HANDLERS = [list_agents, get_agent]
