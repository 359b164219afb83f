"""How much may wait and run at once, as far as this process knows: a refusal costs no look at the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from app.domain.errors import RequestError
from app.domain.shares import has_room

UNBOUNDED = 1_000_000_000
TRY_AGAIN = 1.0
"""Seconds after which the queue may have room again."""


class Admission:
    """Counts the queue and each tenant's runs of this process. Used from one event loop.

    The queue is what was in it at the last look, which comes every second, and what joined and left by this process since: other
    processes may fill it further by what they accept within that time. Delayed runs are in it, too. Tenants share it
    (`app.domain.shares`). The store bounds a tenant's runs over all processes; here those that are being born are counted too.
    """

    def __init__(
        self,
        *,
        queue_max: int = UNBOUNDED,
        per_tenant: int = UNBOUNDED,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`refused` is told `queue` whenever a run found no room."""
        self._queue_max = queue_max
        self._per_tenant = per_tenant
        self._refused = refused
        self._running: Counter[str] = Counter()
        self._stored: Counter[str] = Counter()
        self._asking: Counter[str] = Counter()
        self._since: Counter[str] = Counter()
        self._total = 0

    def check(self, tenant: str) -> None:
        """Raises `RequestError` queue_full where one more run of the tenant would be too many."""
        if not has_room(self._queue_max, self._total, self._stored[tenant] + self._asking[tenant]):
            self._refused("queue")
            detail = f"{self._queue_max} runs are waiting already. Send the request again in a moment."
            raise RequestError("queue_full", detail, retry_after=TRY_AGAIN)

    def asks(self, tenant: str) -> None:
        """A run of the tenant may be in the queue in a moment; to be followed by `asked`."""
        self._change(self._asking, tenant, 1)

    def asked(self, tenant: str) -> None:
        """It is known what became of it."""
        self._change(self._asking, tenant, -1)

    def joined(self, tenant: str) -> None:
        """A run is in the queue."""
        self._since[tenant] += 1
        self._change(self._stored, tenant, 1)

    def left(self, tenant: str) -> None:
        """One was taken from it."""
        self._since[tenant] -= 1
        self._change(self._stored, tenant, -1)

    def look(self) -> None:
        """The queue is about to be looked at; to be followed by `learned`."""
        self._since.clear()

    def learned(self, stored: Mapping[str, int]) -> None:
        """That was in the queue, or is by now, for each tenant."""
        self._stored = Counter(stored)
        self._stored.update(self._since)
        self._total = self._stored.total() + self._asking.total()

    def may_run(self, tenant: str) -> bool:
        """Whether one more of its runs may be executed, as far as it depends on this process."""
        return self._running[tenant] < self._per_tenant

    def runs(self, tenant: str) -> None:
        """One more of its runs is executed here, or is about to be."""
        self._running[tenant] += 1

    def ran(self, tenant: str) -> None:
        """One fewer is."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]

    def _change(self, counts: Counter[str], tenant: str, by: int) -> None:
        self._total += by
        counts[tenant] += by
        if not counts[tenant]:
            del counts[tenant]
