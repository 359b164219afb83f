"""A run between the wish for it and its first event."""

from __future__ import annotations

import re

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import FieldError, RequestError
from app.domain.principals import Principal
from app.domain.stores import Accepted, NewRun, Owned
from app.runs.ids import new_id
from app.runs.runner import Job

_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is about to be stored, and what it needs to begin."""

    run: NewRun
    created: ev.RunCreated
    agent: Agent
    system: str

    def job(self, principal: Principal, accepted: Accepted) -> Job:
        """The run as it is executed, where it was born running."""
        run = self.run
        owned = Owned(
            run_id=run.id,
            tenant=principal.tenant,
            user_id=accepted.user_id,
            session_id=run.session_id,
            session_epoch=accepted.session_epoch,
            turn=accepted.turn,
            agent=run.agent,
            agent_version=run.agent_version,
            epoch=accepted.epoch,
            attempt=1,
            last_seq=accepted.last_seq,
            traceparent=run.traceparent,
            remaining=run.timeout,
            queued=0.0,
            stop_after=run.stop_after,
        )
        return Job(owned=owned, agent=self.agent, system=self.system, created=self.created)


def session_id_of(given: str | None) -> str:
    """The session that a caller names, or a new one. Raises `RequestError` validation_error."""
    if given is None:
        return new_id("ses")
    if _SESSION_ID.fullmatch(given) is None:
        problem = FieldError("session_id", "must be 1 to 128 of A-Z a-z 0-9 . _ : -")
        raise RequestError("validation_error", "The session id has characters that it must not have.", [problem])
    return given
