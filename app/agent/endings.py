"""How a run ends that did not come to its own end: one table from what happened to what the caller is told."""

from __future__ import annotations

import msgspec

from app.agent.decide import Finish
from app.domain.errors import ProviderError, StopCause
from app.domain.runs import Cancellation, RunFailure


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
