"""A run that is to be executed, and as whoever watches it knows it."""

from __future__ import annotations

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.observers import RunInfo
from app.domain.stores import Owned


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is ours to execute: who owns it, its resolved agent and system text, and the event it began with."""

    owned: Owned
    agent: Agent
    system: str
    created: ev.RunCreated

    @property
    def shadow(self) -> bool:
        """Whether it repeats another run, for nobody."""
        return self.created.shadow_of is not msgspec.UNSET


def info(job: Job) -> RunInfo:
    """What its observer is told."""
    owned = job.owned
    return RunInfo(
        run_id=owned.run_id,
        session_id=owned.session_id,
        tenant=owned.tenant,
        user_id=owned.user_id,
        agent=owned.agent,
        agent_version=owned.agent_version,
        route=job.agent.model,
        attempt=owned.attempt,
        traceparent=owned.traceparent,
        queued=owned.queued,
        experiments=job.created.exposure,
        shadow_of=None if job.created.shadow_of is msgspec.UNSET else job.created.shadow_of,
    )
