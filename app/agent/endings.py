"""How a run ends that did not come to its own end: one table from what happened to what the caller is told."""

from __future__ import annotations

import msgspec

from app.agent import structured
from app.agent.decide import CallModel, Finish
from app.domain.agents import Agent
from app.domain.errors import ProviderError, StopCause
from app.domain.runs import Cancellation, RunFailure, StopReason


def _cancelled(detail: str) -> Finish:
    return Finish(status="cancelled", stop_reason="cancelled", error=RunFailure("run_cancelled", detail))


_STOPPED: dict[StopCause, Finish] = {
    "timeout": Finish(
        status="failed",
        stop_reason="timeout",
        error=RunFailure("timeout", "The run reached its time limit. Ask for less, or allow it more time."),
    ),
    "cancelled": _cancelled("The run was cancelled."),
    "superseded": _cancelled("A newer turn of the session took its place."),
    "reset": _cancelled("The session was reset or deleted while the run was going on."),
    "interrupted": Finish(
        status="failed",
        stop_reason="error",
        error=RunFailure(
            "interrupted", "The run's process died, too often to go on. Resume it: what is finished is used again."
        ),
    ),
}

EXCUSABLE: frozenset[StopReason] = frozenset({"timeout", "providers_unavailable"})
"""Failures in whose place an agent's `fallback_reply` goes."""

FAULT = Finish(
    status="failed",
    stop_reason="error",
    error=RunFailure("internal", "The service failed; its log has the reason under this run's id."),
)


def stopped(cause: StopCause, by: Cancellation | None = None) -> Finish:
    """The end of a run that was stopped. For `handover` and `lease` there is none: such a run goes on elsewhere."""
    end = _STOPPED[cause]
    if by is None or (by.by is None and by.reason is None) or end.error is None:
        return end
    said = f"Cancelled{f' by {by.by}' if by.by else ''}{f': {by.reason}' if by.reason else '.'}"
    return msgspec.structs.replace(end, error=RunFailure(end.error.code, said))


def ending(error: ProviderError) -> Finish:
    """The end of a run whose model call raised this."""
    if error.refuses_request:
        return Finish(
            status="failed",
            stop_reason="error",
            error=RunFailure("provider_error", f"The model provider refused the request: {error}"),
        )
    return Finish(
        status="failed",
        stop_reason="providers_unavailable",
        error=RunFailure("providers_unavailable", f"No model answered: {error}"),
    )


def late(decision: CallModel | Finish, agent: Agent) -> Finish:
    """The end of a run whose time was up, and whose plain call led to that decision: with its answer, where it is one."""
    if isinstance(decision, CallModel) or decision.status != "succeeded" or decision.says or not _says(decision, agent):
        return stopped("timeout")
    return msgspec.structs.replace(decision, stop_reason="timeout", degraded=True)


def _says(end: Finish, agent: Agent) -> bool:
    if agent.output_schema is not None:
        return end.stop_reason != "refused"  # a refusal is words, not what the schema asks for
    return bool(end.output.strip())


def late_failure(error: ProviderError) -> Finish:
    """The end of a run whose time was up, and whose plain call raised this."""
    return ending(error) if error.refuses_request else stopped("timeout")


def excused(end: Finish, agent: Agent) -> Finish | None:
    """That end with the agent's `fallback_reply` as its answer. None: the agent has none, or the end is not one of time or of models."""
    if not isinstance(agent.fallback_reply, str) or end.status != "failed" or end.stop_reason not in EXCUSABLE:
        return None
    output = agent.fallback_reply
    if agent.output_schema is not None:
        output = structured.read(output, agent.output_schema)[0]
    return Finish(stop_reason=end.stop_reason, output=output, degraded=True)
