"""Prices of one day, and attempts that are charged by them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.domain.messages import Api, Usage
from app.domain.models import Attempt
from app.domain.prices import Price, Rates
from app.llm.prices import PriceBook, TargetPrices, Vendor
from tests.llm.wire import API_NAMES

FOLDER = Path(__file__).parent / "streams"


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


OPENAI = Vendor(url="https://api.openai.com/v1")


ANTHROPIC = Vendor(url="https://api.anthropic.com")


OWN = Price(rates=Rates(input=Decimal("0.2"), output=Decimal("0.6")))


MODELS: dict[Api, str] = {
    "anthropic-messages": "claude-opus-5-5",
    "openai-responses": "gpt-6.1-sol",
    "openai-chat": "gpt-6.1-sol",
}


each_api = pytest.mark.parametrize("api", API_NAMES)


def book(own: Mapping[str, Price] | None = None) -> PriceBook:
    return PriceBook(own=own or {}, now=lambda: NOW)


async def target(
    model: str, vendor: Vendor = OPENAI, provider: str = "openai", own: Mapping[str, Price] | None = None
) -> TargetPrices:
    prices = book(own).target(provider, model, vendor)
    await prices.ready()
    return prices


def spent(prices: TargetPrices, usage: Usage | None, **fields: Any) -> Decimal | None:
    tried = Attempt(number=1, provider="p", model="m", started=0.0, usage=usage, **fields)
    prices.settle(tried, None)
    return tried.cost_usd


def stream(api: Api, model: str) -> bytes:
    """The recorded shape of a turn: 20 tokens uncached, 100 read from the cache, 7 written to it; 42 written, 9 of them reasoning."""
    body = (FOLDER / f"{api.removesuffix('-messages')}-tools.sse").read_bytes()
    named = {b"claude-test", b"gpt-test"} & set(body.replace(b'"', b" ").split())
    for name in named:
        body = body.replace(name, model.encode())
    return body
