"""Attempts at models before they are made: what they may cost is reserved, what is left bounds them, and the ledger has them."""

from __future__ import annotations

import os
import time
from decimal import ROUND_CEILING, Decimal
from uuid import UUID

import msgspec

from app.agent import tokens
from app.agent.limits import OPEN_OUTPUT, bounded
from app.domain.errors import BudgetExhausted
from app.domain.fold import MIN_OUTPUT
from app.domain.models import Attempt, ModelRequest
from app.domain.prices import Price, Rates
from app.domain.usage import Opened, Opening, Quotes, UsageLedger
from app.runs.patience import patiently

MOST_TRIES = 3
"""A rest that others take first is looked at again, so many times."""
MICRO = Decimal("0.000001")
"""Dollars are reserved in full millionths, rounded up."""


class Attempts:
    """Opens the attempts of one run (`Opener`). While the database is away they wait for it."""

    def __init__(self, *, ledger: UsageLedger, quotes: Quotes, run_id: str, epoch: int) -> None:
        self._ledger = ledger
        self._quotes = quotes
        self._run_id = run_id
        self._epoch = epoch
        self._sized: tuple[ModelRequest, int] | None = None

    async def open(self, attempt: Attempt, request: ModelRequest, spent: Decimal) -> ModelRequest:
        """As `Opener.open` says. A model whose price is not known is bounded by no dollars."""
        price = await self._quotes.price(attempt.provider, attempt.model)
        size = self._size(request)
        allowed = request if price is None else _affordable(request, price.at(size), spent)
        attempt.id, attempt.input_tokens = new_uuid(), size
        opening = Opening(
            id=attempt.id,
            run_id=self._run_id,
            epoch=self._epoch,
            route=request.route,
            provider=attempt.provider,
            model=attempt.model,
            number=attempt.number,
            input_tokens=size,
            input_usd=None if price is None else _dollars(size, price.at(size).input),
            reserved_usd=_reserved(size, allowed, price),
        )
        opened = await patiently(lambda: self._ledger.open(opening))
        for _ in range(MOST_TRIES):
            if opened.refused is None:
                break
            allowed = _within(allowed, size, price, opened)
            smaller = msgspec.structs.replace(opening, reserved_usd=_reserved(size, allowed, price))
            opened = await patiently(lambda smaller=smaller: self._ledger.open(smaller))  # type: ignore[misc]
        if opened.refused is not None:
            raise BudgetExhausted(opened.refused)
        attempt.near = opened.near
        return allowed

    def _size(self, request: ModelRequest) -> int:
        """Tokens of the request, by an estimate; made once for all attempts of a call."""
        if self._sized is None or self._sized[0] is not request:
            self._sized = request, tokens.request(request)
        return self._sized[1]


def _affordable(request: ModelRequest, rates: Rates, spent: Decimal) -> ModelRequest:
    """The request with its output bounded by the dollars that are left. Raises `BudgetExhausted` where that is too little to say anything."""
    if request.usd_left is None:
        return request
    left = request.usd_left - spent
    if left <= 0 and (rates.output or rates.input):
        raise BudgetExhausted("run")
    if not rates.output:
        return request
    room = int(left * 1_000_000 / rates.output)
    if room < MIN_OUTPUT:
        raise BudgetExhausted("run")
    return bounded(request, room)


def _within(request: ModelRequest, size: int, price: Price | None, refused: Opened) -> ModelRequest:
    """The request with its output bounded by what the month has left. Raises `BudgetExhausted` where that is too little to say anything."""
    assert refused.refused is not None
    rates = None if price is None else price.at(size)
    if rates is None or refused.left_usd is None or not rates.output:
        raise BudgetExhausted(refused.refused)
    room = int((refused.left_usd - _dollars(size, rates.dearest_input)) * 1_000_000 / rates.output)
    if room < MIN_OUTPUT:
        raise BudgetExhausted(refused.refused)
    return bounded(request, room)


def _reserved(size: int, request: ModelRequest, price: Price | None) -> Decimal:
    """What the attempt costs at most, were the estimate of its input exact; an output without a bound counts as `OPEN_OUTPUT`."""
    if price is None:
        return Decimal(0)
    rates = price.at(size)
    output = OPEN_OUTPUT if request.max_output_tokens is None else request.max_output_tokens
    return _dollars(size, rates.dearest_input) + _dollars(output, rates.output)


def _dollars(count: int, rate: Decimal) -> Decimal:
    return (count * rate * MICRO).quantize(MICRO, ROUND_CEILING)


def new_uuid() -> UUID:
    """A fresh id; ids sort by the millisecond they were made in (RFC 9562, version 7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=value & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x7000 << 64 | 0x8000 << 48)
