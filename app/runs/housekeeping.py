"""What has to happen at its time, whoever does it: delayed runs become due, approvals expire, the ledger is closed behind dead
owners, old keys are forgotten.

Every process of every role does it; each piece of work is taken by one of them.
"""

from __future__ import annotations

import asyncio
import logging
import time

from app.domain.hints import Hints
from app.domain.idempotency import KeyStore
from app.domain.observers import RunObserver
from app.domain.stores import RunStore
from app.domain.usage import UsageLedger
from app.rounds import rounds
from app.runs.admission import Admission
from app.runs.agents import Agents
from app.runs.approvals import ApprovalService
from app.runs.ledger import told

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between rounds; jittered by a fifth."""
SWEEP_EVERY = 600.0
"""Seconds between looks for keys that are too old."""
SETTLE_EVERY = 10.0
"""Seconds between looks for attempts that nobody will settle, for budgets that nobody was told of, and for how long people are waited for."""
REVIVE_EVERY = 20.0
"""Seconds between looks for sessions that fell out of the queue."""


class Housekeeping:
    """Does the rounds until cancelled."""

    def __init__(
        self,
        *,
        store: RunStore,
        keys: KeyStore,
        usage: UsageLedger,
        approvals: ApprovalService,
        observer: RunObserver,
        broadcast: Hints,
        admission: Admission,
        agents: Agents,
    ) -> None:
        self._store = store
        self._keys = keys
        self._usage = usage
        self._approvals = approvals
        self._observer = observer
        self._broadcast = broadcast
        self._admission = admission
        self._agents = agents
        self._swept = self._revived = self._settled = time.monotonic()

    async def serve(self) -> None:
        """One round after another, also through times without a database."""
        await rounds(self.round, what="runs", every=EVERY, wake=asyncio.Event())

    async def round(self) -> None:
        """Everything that is due now."""
        if await self._store.due():
            self._broadcast.queued()
        await self._approvals.expire()
        self._admission.look()
        depth, oldest_age, stored = await self._store.queue()
        self._admission.learned(stored)
        self._observer.queue(depth, oldest_age)
        if time.monotonic() - self._revived > REVIVE_EVERY:
            self._revived = time.monotonic()
            if revived := await self._store.revive(self._agents.at_once):
                log.warning("sessions had fallen out of the queue", extra={"sessions": revived})
                self._broadcast.queued()
        if time.monotonic() - self._settled > SETTLE_EVERY:
            self._settled = time.monotonic()
            await self.settle()
            await self._approvals.look()
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._swept = time.monotonic()
            await self._keys.sweep()

    async def settle(self) -> None:
        """No attempt is open that nobody will settle, and no budget has come to a level without a word in the log."""
        if swept := await self._usage.sweep():
            log.warning("attempts_abandoned", extra={"attempts": swept})
        for crossing in await self._usage.untold():
            told(crossing)
