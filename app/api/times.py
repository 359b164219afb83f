"""Times in queries."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from app.domain.errors import FieldError, RequestError

TIME = {"format": "date-time"}


def time_of(name: str, given: str | None) -> datetime | None:
    """A time as RFC 3339 writes it, in UTC; that of one who names no zone is taken for UTC. Raises `RequestError` validation_error."""
    if given is None:
        return None
    try:
        at = msgspec.convert(given, datetime)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        why = "must be a time such as 2026-11-21T12:00:00Z"
        raise RequestError("validation_error", f"`{name}` {why}.", [FieldError(name, why)]) from None
