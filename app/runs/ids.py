"""Names for new things."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str) -> str:
    """A fresh id that cannot be guessed; ids of one prefix sort by the millisecond they were made in."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def message_id(run_id: str, seq: int) -> str:
    """The id of the message that a run begins to write after its event `seq`.

    It follows from what is stored, so that a reader can be told to forget a message of which nothing is.
    """
    return f"msg_{run_id.removeprefix('run_')}_{seq}"
