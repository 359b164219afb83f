"""Which request and which run the current task works for. Context variables: a task inherits them from its creator."""

from __future__ import annotations

from contextvars import ContextVar

from app.domain.observers import RunInfo

request_id: ContextVar[str | None] = ContextVar("steadyhand_request_id", default=None)
run: ContextVar[RunInfo | None] = ContextVar("steadyhand_run", default=None)
