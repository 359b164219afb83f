"""Where an attempt begins: in the ledger, before its first byte leaves."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from app.domain.models import Attempt, ModelRequest, Recorder


async def begin(
    recorder: Recorder, provider: str, model: str, request: ModelRequest, now: float
) -> tuple[Attempt, ModelRequest]:
    """The recorder's next attempt, and the request as it may be sent. Raises what `Opener.open` does; then no attempt was made.

    One that is cancelled on the way is recorded, for it may be in the ledger; it cost nothing.
    """
    spent = recorder.cost
    attempt = recorder.open(provider, model, now)
    if recorder.opener is None:
        return attempt, request
    try:
        return attempt, await recorder.opener.open(attempt, request, spent)
    except asyncio.CancelledError:
        attempt.outcome, attempt.basis, attempt.cost_usd, attempt.ended = "cancelled", "provider", Decimal(0), now
        raise
    except BaseException:
        recorder.attempts.remove(attempt)
        raise
