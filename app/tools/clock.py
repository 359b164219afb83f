"""What time it is, anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from app.tools.declare import tool


class Moment(msgspec.Struct, frozen=True):
    """A moment in a time zone: ISO 8601 with its offset, to the second, and the English name of the day."""

    time: str
    weekday: str
    timezone: str


@tool(risk="low", effect="read", timeout=5, returns="trusted")
async def clock(timezone: str = "UTC") -> Moment:
    """Tell the current date, time and weekday in a time zone.

    Args:
        timezone: IANA name of the time zone, such as Europe/Berlin or America/New_York.
    """
    return moment(datetime.now(UTC), timezone)


def moment(now: datetime, timezone: str) -> Moment:
    """`now` as a clock in that zone shows it. Raises ValueError for a zone that does not exist."""
    try:
        local = now.astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder, such as Europe
        raise ValueError(
            f"there is no time zone {timezone[:60]!r}: use an IANA name such as Europe/Berlin, America/New_York or UTC"
        ) from error
    return Moment(time=local.isoformat(timespec="seconds"), weekday=_WEEKDAYS[local.weekday()], timezone=timezone)


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
