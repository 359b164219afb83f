"""Sends what is due: so many at once, each claimed for a time, so that a sender that dies is followed by another."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from app.callbacks.sending import Sender
from app.callbacks.signing import signed_headers, signing_key, signing_secret
from app.domain.callbacks import CallbackStatus, CallbackStore, Delivery, Outcome, Runs
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import Principal
from app.rounds import rounds

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at what is due when nobody wakes us; jittered by a fifth."""
PAUSES = (5.0, 30.0, 120.0, 600.0, 3_600.0, 10_800.0)
"""Seconds from one attempt to the next, jittered by a fifth; the last one again and again."""
LONGEST_WISH = 10_800.0
"""Seconds that a receiver's Retry-After can ask for."""
CLAIM = 60.0
"""Seconds after which a claimed delivery is taken for lost and sent again: well beyond what one attempt may take."""
GONE = 410

_HOST = re.compile(r"[^:]*://([^/?#]*)")


def webhook_id(run_id: str) -> str:
    """The id of a run's callback, the same for each repetition."""
    return f"evt_{run_id.removeprefix('run_')}"


class Deliveries:
    """Sends due callbacks of every tenant. `concurrency` bounds what is under way, `per_host` what goes to one host.

    `secret`: the configured one, else the shared one of the store is used. Raises ConfigError where it is no secret.
    """

    def __init__(
        self,
        *,
        store: CallbackStore,
        runs: Runs,
        sender: Sender,
        secret: str | None,
        max_attempts: int = 8,
        pauses: Sequence[float] = PAUSES,
        claim: float = CLAIM,
        concurrency: int = 16,
        per_host: int = 4,
    ) -> None:
        self._store = store
        self._runs = runs
        self._sender = sender
        self._key = None if secret is None else signing_key(secret)
        self._max_attempts = max_attempts
        self._pauses = pauses
        self._claim = claim
        self._concurrency = concurrency
        self._per_host = per_host
        self._hosts: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something is due: look now."""
        self._wake.set()

    async def serve(self) -> None:
        """Send what is due until cancelled; what is under way then is given back, to be sent by another process."""
        async with asyncio.TaskGroup() as group:
            await rounds(lambda: self._begin_due(group), what="callbacks", every=POLL, wake=self._wake)

    async def _begin_due(self, group: asyncio.TaskGroup) -> None:
        while self._hosts.total() < self._concurrency:
            full = [host for host, count in self._hosts.items() if count >= self._per_host]
            delivery = await self._store.claim(self._claim, full)
            if delivery is None:
                return
            self._hosts[_host(delivery.url)] += 1
            group.create_task(self._deliver(delivery), name=f"callback {delivery.run_id}")

    async def _deliver(self, delivery: Delivery) -> None:
        host = _host(delivery.url)
        try:
            await self._attempt(delivery)
        except asyncio.CancelledError:
            await self._give_back(delivery)
            raise
        except DatabaseUnavailable as error:
            # The claim runs out and it is sent again, under the same id.
            log.warning("a callback's attempt could not be recorded", extra=_about(delivery, reason=str(error)))
        except Exception:
            log.exception("a callback could not be sent; it will be tried again", extra=_about(delivery))
        finally:
            self._hosts[host] -= 1
            self._hosts += Counter()  # without the hosts that have none any more
            self._wake.set()

    async def _attempt(self, delivery: Delivery) -> None:
        if delivery.attempt > self._max_attempts:  # its last senders died
            await self._store.record(delivery, None, "failed", None)
            log.warning("a callback is given up: its senders died", extra=_about(delivery))
            return
        run = await self._runs.run(Principal(tenant=delivery.tenant), delivery.run_id)
        if run is None:  # deleted a moment ago, and the callback with it
            return
        body = msgspec.json.encode({"type": "run.finished", "timestamp": run.finished_at, "data": run})
        headers = signed_headers(await self._signing_key(), webhook_id(delivery.run_id), int(time.time()), body)
        outcome = await self._sender.post(delivery.url, headers, body)
        status, pause = self._after(delivery, outcome)
        recording = asyncio.ensure_future(self._store.record(delivery, outcome, status, pause))
        try:
            held = await asyncio.shield(recording)
        except asyncio.CancelledError:
            await recording
            raise
        if status == "failed" and held:
            log.warning("a callback is given up", extra=_about(delivery, reason=outcome.error))

    def _after(self, delivery: Delivery, outcome: Outcome) -> tuple[CallbackStatus, float | None]:
        """What follows an attempt: a status, and the seconds to the next attempt."""
        if outcome.error is None:
            return "delivered", None
        if outcome.status == GONE or delivery.attempt >= self._max_attempts:
            return "failed", None
        pause = self._pauses[min(delivery.attempt, len(self._pauses)) - 1] * random.uniform(0.8, 1.2)
        return "due", max(pause, min(outcome.retry_after or 0.0, LONGEST_WISH))

    async def _signing_key(self) -> bytes:
        if self._key is None:
            self._key = signing_key(await signing_secret(self._store, None))
        return self._key

    async def _give_back(self, delivery: Delivery) -> None:
        try:
            await self._store.give_back(delivery)
        except DatabaseUnavailable as error:
            log.warning(
                "a callback could not be given back; its claim runs out", extra=_about(delivery, reason=str(error))
            )


def _host(url: str) -> str:
    """The part of the URL by which the store spares hosts."""
    found = _HOST.match(url)
    return found[1].lower() if found else ""


def _about(delivery: Delivery, **more: object) -> dict[str, object]:
    return {"run_id": delivery.run_id, "attempt": delivery.attempt, **more}
