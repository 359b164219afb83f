"""What keeps a run that is executed here from being taken over."""

from __future__ import annotations

from typing import Protocol


class Leases(Protocol):
    """Keeps what this process owns from being taken over. Times are `time.monotonic()` seconds."""

    def add(self, run_id: str, epoch: int, until: float, deadline: float) -> None:
        """Extend that lease, which holds `until` then, as long as the run may go on."""
        ...

    def remove(self, run_id: str) -> None: ...
