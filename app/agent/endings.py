"""How a run ends that did not come to its own end: one table from what happened to what the caller is told."""

from __future__ import annotations

from app.agent.decide import Finish
from app.domain.errors import ProviderError, RunStopped, StopCause
from app.domain.runs import RunFailure

_STOPPED: dict[StopCause, Finish] = {
    "timeout": Finish(
        status="failed",
        stop_reason="timeout",
        error=RunFailure("timeout", "The run reached its time limit. Ask for less, or allow it more time."),
    ),
    "reset": Finish(
        status="cancelled",
        stop_reason="cancelled",
        error=RunFailure("run_cancelled", "The session was reset while the run was going on."),
    ),
    "interrupted": Finish(
        status="failed",
        stop_reason="error",
        error=RunFailure("interrupted", "The service stopped before the run was finished. Send the request again."),
    ),
}

FAULT = Finish(
    status="failed",
    stop_reason="error",
    error=RunFailure("internal", "The service failed; its log has the reason under this run's id."),
)


def stopped(cause: StopCause) -> Finish:
    """The end of a run that was stopped."""
    return _STOPPED[cause]


def ending(error: RunStopped | ProviderError) -> Finish:
    """The end of a run whose effect raised this."""
    if isinstance(error, RunStopped):
        return stopped(error.cause)
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
