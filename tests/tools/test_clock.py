from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.tools.clock import Moment, clock, moment
from app.tools.declare import declare

NOW = datetime(2026, 11, 21, 23, 30, 15, 999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", Moment("2026-11-21T23:30:15+00:00", "Saturday", "UTC")),
        ("Europe/Berlin", Moment("2026-11-22T00:30:15+01:00", "Sunday", "Europe/Berlin")),
        ("Asia/Kolkata", Moment("2026-11-22T05:00:15+05:30", "Sunday", "Asia/Kolkata")),
    ],
)
def test_moments(zone: str, expected: Moment) -> None:
    assert moment(NOW, zone) == expected


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "/etc/passwd", "a\x00b", "\ud800", "x" * 5000, "tzdata.zi"]
)
def test_unknown_zones_are_a_clear_error(zone: str) -> None:
    with pytest.raises(ValueError, match="use an IANA name such as Europe/Berlin"):
        moment(NOW, zone)


async def test_the_tool_tells_the_current_time() -> None:
    told = datetime.fromisoformat((await clock()).time)
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)
    spec = declare(clock).spec
    assert (spec.name, spec.risk, spec.effect) == ("clock", "low", "read")
    assert spec.schema["properties"]["timezone"]["default"] == "UTC"
