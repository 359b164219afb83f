"""What an attempt cost: the operator's own prices, else the list prices of the package `genai-prices`. Decision 9 says why it.

A price that is not known is None, never a guess: of a host or a model that no list has, and of a service tier that its model's list
leaves out. The package is read from its own data module; nothing here asks a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import msgspec

from app.domain.errors import ProviderError
from app.domain.messages import Usage
from app.domain.models import Attempt
from app.domain.prices import Price, Rates, Step
from app.llm.taxonomy import POLICIES

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PLAIN = frozenset({"", "auto", "default", "standard", "on_demand"})
"""Service tiers and speeds at the list price; `auto` only repeats that the request named none. Any other has a price of its own, or
none that is known."""

KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}
"""The package's prices that text is charged by, and what they are here."""

BESIDE = ("web_searches", "storage_searches", "audio", "image", "video", "document", "mchars")
"""Prices of what no request of ours asks for. A model with a price of any other kind is not known."""

LOOKUPS = 1024
"""Models whose search in the list is remembered: providers name the models that answered, and could name any number."""


class Vendor(msgspec.Struct, frozen=True):
    """Whose list holds for a provider: that of the host where `url` leads, else of the vendor with that `id`. Neither: none does."""

    id: str | None = None
    url: str | None = None


class PriceList:
    """The package's prices, once they are loaded."""

    def __init__(self) -> None:
        self._snapshot: DataSnapshot | None = None
        self._loading = asyncio.Lock()
        self._find = lru_cache(maxsize=LOOKUPS)(self._search)

    @property
    def loaded(self) -> bool:
        """Whether prices can be looked up."""
        return self._snapshot is not None

    async def load(self) -> None:
        """The package is imported, in a thread: a fiftieth of a second, or a fifth where Python has no bytecode of it."""
        async with self._loading:
            if self._snapshot is None:
                self._snapshot = await asyncio.to_thread(_snapshot)

    def price(self, vendor: Vendor, model: str, *, tier: str, speed: str, at: datetime) -> Price | None:
        """The list price of that model at that time; None where no list has it."""
        info, own = self._find(vendor, model)
        if info is None:
            return None
        context = _context(tier, speed)
        if context and not (own and _has_variants(info, context, at)):
            return None
        return price_of(info.get_prices(at, context or None))

    def _search(self, vendor: Vendor, model: str) -> tuple[ModelInfo | None, bool]:
        """The model's entry, and whether it is in the vendor's own list, where its service tiers are the vendor's, too."""
        provider = self._vendor(vendor)
        if provider is None or self._snapshot is None:
            return None, False
        info = provider.find_model(model, all_providers=self._snapshot.providers)
        return info, any(info is listed for listed in provider.models)

    def _vendor(self, vendor: Vendor) -> Provider | None:
        assert self._snapshot is not None, "prices are looked up before they are loaded"
        for name, url in ((None, vendor.url), (vendor.id, None)):
            with suppress(LookupError):
                if name or url:
                    return self._snapshot.find_provider(None, name, url)
        return None


def _snapshot() -> DataSnapshot:
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


def _context(tier: str, speed: str) -> dict[str, str]:
    """What the package chooses a price by, beside the model."""
    context = {} if tier in PLAIN else {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    return context if speed in PLAIN else context | {"speed": speed}


def _has_variants(info: ModelInfo, context: Mapping[str, str], at: datetime) -> bool:
    """Whether the list has a price for that context, and not only for a part of it."""
    return any(
        dict(variant.when) == context and (variant.constraint is None or variant.constraint.active(at))
        for variant in info.price_variants or ()
    )


def price_of(listed: ModelPrice) -> Price | None:
    """A price of the package as ours; None where it is not by tokens of text alone."""
    prices = {key: price for key, price in vars(listed).items() if price is not None}
    known = {KEYS[key]: price for key, price in prices.items() if key in KEYS}
    strange = [key for key in prices if key not in KEYS and not any(word in key for word in BESIDE)]
    if strange or not {"input", "output"} <= known.keys():
        return None
    starts = sorted({tier.start for price in known.values() if not isinstance(price, Decimal) for tier in price.tiers})
    return Price(
        rates=_rates(known, 0),
        steps=tuple(Step(above=start, rates=_rates(known, start + 1)) for start in starts),
        batch=Decimal(1),  # the list has rates of their own for batches
    )


def _rates(known: Mapping[str, Decimal | TieredPrices], size: int) -> Rates:
    return Rates(**{name: _rate(price, size) for name, price in known.items()})


def _rate(price: Decimal | TieredPrices, size: int) -> Decimal:
    """The rate for an input of `size` tokens."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if size > tier.start), price.base)


class Written(Protocol):
    """As much of an answer as came."""

    @property
    def written(self) -> int:
        """Tokens of it, by an estimate."""
        ...


def estimated(counted: Usage | None, input_tokens: int, written: int) -> Usage:
    """What the provider had counted when it broke off, and an estimate of what it had not: never less than was seen to be written."""
    if counted is None:
        return Usage(input_tokens=input_tokens, output_tokens=written)
    read = input_tokens if counted.input_tokens is None else counted.input_tokens
    return msgspec.structs.replace(counted, input_tokens=read, output_tokens=max(written, counted.output_tokens or 0))


class TargetPrices:
    """The prices of one model of one provider."""

    def __init__(
        self,
        *,
        provider: str,
        model: str,
        vendor: Vendor,
        own: Mapping[str, Price],
        listed: PriceList,
        now: Callable[[], datetime],
    ) -> None:
        self._provider = provider
        self._model = model
        self._vendor = vendor
        self._own = own
        self._listed = listed
        self._now = now
        self._fixed = own.get(f"{provider}/{model}")

    async def ready(self) -> None:
        """Whatever a price needs is loaded. Only the first call of a process takes time."""
        if self._fixed is None and not self._listed.loaded:
            await self._listed.load()

    def settle(
        self, attempt: Attempt, answer: Written | None, failure: ProviderError | None = None, *, begun: bool = False
    ) -> None:
        """Say what the attempt cost, now that it is over; `answer` is as much of it as came, `begun`: something had.

        A provider that failed before it did any work charges nothing, unless it said otherwise. One that did not come to its last
        count is charged what it had counted, and an estimate of the rest. `ready` was awaited before the attempt used anything.
        """
        if attempt.usage is None:
            charge = "always" if failure is None else POLICIES[failure.kind].charge
            if charge == "nothing" or (charge == "if_begun" and not begun):
                attempt.basis, attempt.cost_usd = "provider", Decimal(0)
                return
        if attempt.basis == "estimated" and attempt.input_tokens is not None:
            attempt.usage = estimated(attempt.usage, attempt.input_tokens, 0 if answer is None else answer.written)
        parts = None if attempt.usage is None else attempt.usage.parts()
        price = self.price(attempt.response_model, attempt.service_tier, attempt.speed)
        attempt.cost_usd = (
            None if parts is None or price is None else price.cost(parts, batch=attempt.service_tier == "batch")
        )

    def price(self, served: str = "", tier: str = "", speed: str = "") -> Price | None:
        """By the model that answered, where it says which it was: the operator's price of it, of the model asked for, the list's."""
        served = served or self._model
        own = self._own.get(f"{self._provider}/{served}") or self._fixed
        if own is not None:
            return own
        return self._listed.price(self._vendor, served, tier=tier, speed=speed, at=self._now())


class PriceBook:
    """The prices of a process. `own` are the operator's, by provider/model; they hold for every service tier, in batches for their part."""

    def __init__(self, *, own: Mapping[str, Price], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._own = own
        self._now = now
        self._listed = PriceList()
        self._targets: dict[tuple[str, str], TargetPrices] = {}

    def target(self, provider: str, model: str, vendor: Vendor) -> TargetPrices:
        """Those of one model."""
        self._targets[provider, model] = found = TargetPrices(
            provider=provider, model=model, vendor=vendor, own=self._own, listed=self._listed, now=self._now
        )
        return found

    async def price(self, provider: str, model: str) -> Price | None:
        """That of a model which has become a target. None: not known."""
        target = self._targets.get((provider, model))
        if target is None:
            return None
        await target.ready()
        return target.price()
