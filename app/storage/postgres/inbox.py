"""What lies in the inboxes of runs: messages and wishes to stop."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain.errors import StopCause
from app.domain.runs import Cancellation
from app.domain.stores import Post


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a `stop` in an inbox."""

    cause: StopCause
    cancellation: Cancellation


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a `message` in an inbox."""

    content: str


def post_of(row: Any) -> Post:
    """What a row says."""
    if row["kind"] == "message":
        said = msgspec.json.decode(row["payload"], type=Said)
        return Post(n=row["n"], id=row["id"], kind="message", content=said.content, age=row["age"])
    stop = msgspec.json.decode(row["payload"], type=Stop)
    return Post(n=row["n"], id=row["id"], kind="stop", cause=stop.cause, cancellation=stop.cancellation, age=row["age"])
