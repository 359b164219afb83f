"""Names for new things."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str) -> str:
    """A fresh id that cannot be guessed; ids of one prefix sort by the millisecond they were made in."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
