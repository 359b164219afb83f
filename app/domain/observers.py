"""What the life of a run tells to whoever watches it (tracing, metrics, logs), and nothing more."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec

from app.domain.approvals import Decision
from app.domain.events import RunFinished, RunWaiting
from app.domain.tiers import TierDecision
from app.domain.tools import Risk


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its execution begins. `traceparent` is the W3C header of the request that made it; `queued` in seconds.

    `experiments` are the variants that it is exposed to; `shadow_of` is the run that it repeats for the record only.
    """

    run_id: str
    session_id: str
    tenant: str
    user_id: str | None
    agent: str
    agent_version: str
    route: str
    attempt: int
    traceparent: str | None
    queued: float
    experiments: dict[str, str] = {}
    shadow_of: str | None = None


class EndedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that ended without being executed."""

    run_id: str
    session_id: str
    agent: str


class RunTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: the whole execution, and how much of it a model call or a tool was under way (overlaps counted once)."""

    total: float
    effects: float


class RunWatch(Protocol):
    """One execution being watched."""

    def finished(self, event: RunFinished, response_model: str | None, times: RunTimes) -> None:
        """The run reached its end and the end is stored."""
        ...

    def waiting(self, event: RunWaiting, times: RunTimes) -> None:
        """The run waits, and that is stored."""
        ...

    def left(self) -> None:
        """The run goes on elsewhere."""
        ...

    def failed(self, error: BaseException) -> None:
        """A fault of ours ended the execution; the traceback is the log's only copy."""
        ...


class RunObserver(Protocol):
    """Watches runs of one process. Its methods are quick, never raise and never wait."""

    def traceparent(self) -> str | None:
        """The current trace context as a W3C header; None where nothing is traced."""
        ...

    def running(self, info: RunInfo) -> AbstractContextManager[RunWatch]:
        """Entered when an execution begins, left when it ends; what runs inside belongs to its trace."""
        ...

    def unstarted(self, run: EndedRun, event: RunFinished) -> None:
        """A run ended without being executed here: it never began, or the process that executed it is dead."""
        ...

    def tiered(self, decision: TierDecision) -> None:
        """The model calls of the run that the current task executes go to another tier from now on, or to their first one."""
        ...

    def shadowed(self, experiment: str, outcome: Literal["started", "dropped", "error"]) -> None:
        """A run was to have a shadow: it has, there was no room for it, or it could not be made."""
        ...

    def guarded(self, guard: str, action: str) -> None:
        """A guard of the input or the output did something: `length`, `pii`, `secret`, `prompt` or `link`; `refused`, `redacted` or `removed`."""
        ...

    def denied(self, tool: str) -> None:
        """A call of that tool was refused to the model."""
        ...

    def recovered(self) -> None:
        """A run of a dead owner was taken over."""
        ...

    def fenced(self) -> None:
        """A write of a stale owner was refused."""
        ...

    def stopped(self, seconds: float) -> None:
        """A stop took that long from the call until the run's end was stored."""
        ...

    def decided(self, risk: Risk, decision: Decision, age: float) -> None:
        """An approval that was asked for that many seconds ago was given, denied, or expired."""
        ...

    def approvals(self, waiting: int, oldest_age: float) -> None:
        """How many approvals wait for a person, and for how many seconds the oldest has."""
        ...

    def queue(self, depth: int, oldest_age: float) -> None:
        """How many runs wait for an owner, and for how many seconds the oldest has."""
        ...
