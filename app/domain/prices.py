"""What tokens cost: exact US dollars, by the price that holds for one call."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from app.domain.messages import UsageParts


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens. `output` holds for reasoning, too.

    `cache_read` or `cache_write` None: charged as any other input. `cache_write_1h` None: not known.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None

    @property
    def dearest_input(self) -> Decimal:
        """What a token of input costs at most, whatever becomes of it in a cache."""
        return max(
            rate for rate in (self.input, self.cache_read, self.cache_write, self.cache_write_1h) if rate is not None
        )

    def cost(self, parts: UsageParts) -> Decimal | None:
        """Dollars for those tokens, exact; None where a rate for some of them is not known."""
        if parts.cache_write_1h and self.cache_write_1h is None:
            return None
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        millions = (
            parts.uncached_input * self.input
            + parts.cache_read * read
            + parts.cache_write_5m * write
            + parts.cache_write_1h * (self.cache_write_1h or 0)
            + parts.output_tokens * self.output
        )
        return millions.scaleb(-6)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Other rates for the whole call where its input is longer than `above` tokens."""

    above: int
    rates: Rates


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """One model's price. `steps` are in rising order; the last that a call's input is longer than holds for all of its tokens.

    `batch`: the part of it that is charged for a call in a batch.
    """

    rates: Rates
    steps: tuple[Step, ...] = ()
    batch: Decimal = Decimal("0.5")

    def cost(self, parts: UsageParts, *, batch: bool = False) -> Decimal | None:
        """Dollars for one call, exact; None where a rate is not known."""
        whole = self.at(parts.input_tokens).cost(parts)
        return whole * self.batch if batch and whole is not None else whole

    def at(self, size: int) -> Rates:
        """The rates of a call with an input of so many tokens."""
        rates = self.rates
        for step in self.steps:
            if size > step.above:
                rates = step.rates
        return rates
