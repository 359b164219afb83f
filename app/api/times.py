"""Times in queries."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from app.domain.errors import FieldError, RequestError

TIME = {"format": "date-time"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def time_of(name: str, given: str | None) -> datetime | None:
    """A time as RFC 3339 writes it, in UTC; without a zone it is taken for UTC, and a day alone for its beginning. Raises `RequestError` validation_error."""
    if given is None:
        return None
    try:
        at = msgspec.convert(f"{given}T00:00:00Z" if _DAY.fullmatch(given) else given, datetime)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        why = "must be a time such as 2026-11-21T12:00:00Z"
        raise RequestError("validation_error", f"`{name}` {why}.", [FieldError(name, why)]) from None
