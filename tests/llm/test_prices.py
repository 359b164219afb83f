"""What attempts cost, to the last digit: sums worked out by hand, at the list prices of November 2026 and at the operator's."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.messages import Api, Usage
from app.domain.prices import Price, Rates, Step
from app.llm.offline import OfflineTarget
from app.llm.prices import PriceBook, PriceList, Vendor
from app.llm.providers import open_provider
from tests.llm.messages import REQUEST
from tests.llm.pricing import ANTHROPIC, MODELS, NOW, OPENAI, OWN, book, each_api, spent, stream, target
from tests.llm.wire import Script, Served, ask, attempt, collect, provider


@each_api
async def test_a_turn_with_cached_and_reasoning_tokens(api: Api) -> None:
    # claude-opus-5-5: 20 x 4 + 100 x 0.2 + 7 x 5   + 42 x 20 = 975  millionths
    # gpt-6.1-sol:     20 x 2 + 100 x 0.1 + 7 x 2.5 + 42 x 10 = 487.5 millionths
    want = Decimal("0.000975") if api == "anthropic-messages" else Decimal("0.0004875")
    async with provider(api, Script(Served(stream(api, MODELS[api]))), prices=book()) as opened:
        tried = attempt()
        await ask(opened, model=MODELS[api], tried=tried)
    assert tried.response_model == MODELS[api]
    assert (tried.cost_usd, tried.basis) == (want, "provider")


LISTED: list[tuple[Vendor, str, Usage, dict[str, str], str]] = [
    # cache writes by lifetime: 1,000 x 4 + 2,000 x 0.2 + 3,000 x 5 + 4,000 x 8 + 100 x 20 = 53,400
    (
        ANTHROPIC,
        "claude-opus-5-5",
        Usage(
            input_tokens=10_000,
            cached_input_tokens=2_000,
            cache_write_tokens=7_000,
            cache_write_1h_tokens=4_000,
            output_tokens=100,
        ),
        {"service_tier": "standard"},
        "0.0534",
    ),
    # a dated name of the same model: 1,000 x 1 + 1,000 x 5
    (ANTHROPIC, "claude-haiku-4-5-20251001", Usage(input_tokens=1_000, output_tokens=1_000), {}, "0.006"),
    # speed fast doubles: 1,000 x 8 + 10 x 40
    (ANTHROPIC, "claude-opus-5-5", Usage(input_tokens=1_000, output_tokens=10), {"speed": "fast"}, "0.0084"),
    # batch is half: 1,000 x 2 + 10 x 10
    (ANTHROPIC, "claude-opus-5-5", Usage(input_tokens=1_000, output_tokens=10), {"service_tier": "batch"}, "0.0021"),
    # up to 100,000 tokens of input, the cached ones among them, and one more, where everything costs five times as much
    (ANTHROPIC, "claude-haiku-5-5", Usage(input_tokens=100_000, cached_input_tokens=90_000, output_tokens=1_000), {}, "0.0024"),
    (ANTHROPIC, "claude-haiku-5-5", Usage(input_tokens=100_001, cached_input_tokens=90_000, output_tokens=1_000), {}, "0.0120005"),
    # 272,000 x 2 + 1,000 x 10; above it input is twice as much and output half as much again: 272,001 x 4 + 1,000 x 15
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=272_000, output_tokens=1_000), {}, "0.554"),
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=272_001, output_tokens=1_000), {}, "1.103004"),
    # flex is half, priority double: 800 x 1 + 200 x 0.05 + 10 x 5; 800 x 4 + 200 x 0.2 + 10 x 20
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=1_000, cached_input_tokens=200, output_tokens=10), {"service_tier": "flex"}, "0.00086"),
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=1_000, cached_input_tokens=200, output_tokens=10), {"service_tier": "priority"}, "0.00344"),
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=1_000, output_tokens=10), {"service_tier": "default"}, "0.0021"),
    (OPENAI, "gpt-6-luna", Usage(input_tokens=1, output_tokens=0), {}, "0.0000001"),
    (OPENAI, "gpt-6.1-sol", Usage(input_tokens=0, output_tokens=0), {}, "0"),
    # no price for writing to the cache: what is written is input like any other, 1,000 x 5 + 10 x 30
    (OPENAI, "gpt-5.5", Usage(input_tokens=1_000, cache_write_tokens=400, output_tokens=10), {}, "0.0053"),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "model", "usage", "fields", "want"), LISTED)
async def test_list_prices(vendor: Vendor, model: str, usage: Usage, fields: dict[str, str], want: str) -> None:
    assert spent(await target(model, vendor), usage, **fields) == Decimal(want)


async def test_a_price_is_that_of_its_day() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    for day, want in ((20, "10"), (21, "8")):  # gpt-5.6-sol became cheaper on 21 August 2026
        prices = PriceBook(own={}, now=lambda day=day: datetime(2026, 8, day, tzinfo=UTC))  # type: ignore[misc]
        one = prices.target("openai", "gpt-5.6-sol", OPENAI)
        await one.ready()
        assert spent(one, usage) == Decimal(want)


USED = Usage(input_tokens=1_000, output_tokens=10)


@pytest.mark.parametrize(
    ("vendor", "model", "fields"),
    [
        (OPENAI, "model-of-the-future", {}),
        (OPENAI, "claude-opus-5-5", {}),  # of another vendor
        (OPENAI, "gpt-6.1-sol", {"response_model": "model-of-the-future"}),  # another one answered
        (OPENAI, "gpt-6.1-sol", {"service_tier": "ultrafast"}),
        (OPENAI, "gpt-5.4-nano", {"service_tier": "tier-of-the-future"}),
        (ANTHROPIC, "claude-opus-5-5", {"service_tier": "priority"}),
        (ANTHROPIC, "claude-haiku-4-5", {"speed": "fast"}),
        (OPENAI, "text-embedding-3-small", {}),  # a price for input only
        (Vendor(url="https://api.perplexity.ai"), "sonar", {}),  # charges for requests, too
        (Vendor(url="http://127.0.0.1:11434/v1"), "gpt-6.1-sol", {}),
        (Vendor(url="https://eu.api.openai.com/v1"), "gpt-6.1-sol", {}),  # more than the list says
        (Vendor(), "gpt-6.1-sol", {}),
    ],
)
async def test_what_no_list_has_is_not_known(vendor: Vendor, model: str, fields: dict[str, str]) -> None:
    assert spent(await target(model, vendor), USED, **fields) is None


async def test_usage_that_is_not_known_or_contradicts_itself_has_no_cost() -> None:
    prices = await target("gpt-6.1-sol")
    assert spent(prices, None) is None
    assert spent(prices, Usage(input_tokens=1)) is None
    assert spent(prices, Usage(input_tokens=1, cached_input_tokens=2, output_tokens=1)) is None


@pytest.mark.parametrize(
    ("name", "base_url", "own_host", "want"),
    [
        ("openai", None, True, "0.0021"),
        ("second", None, True, "0.0021"),  # another account
        ("openai", "http://127.0.0.1:4000/v1", False, "0.0021"),  # a gateway in the vendor's name
        ("gateway", "http://127.0.0.1:4000/v1", False, None),
        ("openai", "https://eu.api.openai.com/v1", True, None),
        ("openai", "https://api.groq.com/openai/v1", False, None),  # its own list, which has no such model
    ],
)
async def test_whose_list_holds(name: str, base_url: str | None, own_host: bool, want: str | None) -> None:
    opened = open_provider(name=name, kind="openai", api_key="k", base_url=base_url, own_host=own_host, prices=book())
    prices = opened.target("gpt-6.1-sol")._prices
    assert prices is not None
    await prices.ready()
    assert spent(prices, USED) == (None if want is None else Decimal(want))


async def test_another_host_has_its_own_list() -> None:
    # groq: gpt-oss-120b at 0.15 and 0.6
    prices = await target("openai/gpt-oss-120b", Vendor(url="https://api.groq.com/openai/v1"))
    assert spent(prices, USED, service_tier="on_demand") == Decimal("0.000156")


async def test_the_operators_price_goes_first_whatever_answered() -> None:
    # 1,000 x 0.2 + 10 x 0.6, also for the dated model that answered, and at any service tier
    prices = await target("gpt-6.1-sol", own={"openai/gpt-6.1-sol": OWN})
    for fields in ({}, {"response_model": "gpt-6.1-sol-2026-09-29"}, {"service_tier": "flex"}):
        assert spent(prices, USED, **fields) == Decimal("0.000206")
    dear = Price(rates=Rates(input=Decimal(1), output=Decimal(1)))
    both = await target("x", own={"openai/x": OWN, "openai/x-2": dear})
    assert (spent(both, USED, response_model="x-2"), spent(both, USED)) == (Decimal("0.00101"), Decimal("0.000206"))
    assert spent(await target("x", provider="other", own={"openai/x": OWN}), USED) is None


def test_the_operators_rates() -> None:
    rates = Rates(input=Decimal("1.5"), output=Decimal(6), cache_read=Decimal("0.15"))
    price = Price(rates=rates, steps=(Step(above=1_000, rates=Rates(input=Decimal(3), output=Decimal(9))),))

    def cost(**tokens: int) -> Decimal | None:
        parts = Usage(**tokens).parts()
        assert parts is not None
        return price.cost(parts)

    # 500 x 1.5 + 300 x 0.15 + 200 x 1.5 (writing costs as much as any input) + 50 x 6, reasoning included
    assert cost(
        input_tokens=1_000, cached_input_tokens=300, cache_write_tokens=200, output_tokens=50, reasoning_tokens=40
    ) == Decimal("0.001395")
    assert cost(input_tokens=1_001, cached_input_tokens=300, output_tokens=1) == Decimal("0.003012")
    assert cost(input_tokens=10, cache_write_tokens=5, cache_write_1h_tokens=5, output_tokens=1) is None


@pytest.fixture(scope="module")
def lists() -> PriceList:
    loaded = PriceList()
    asyncio.run(loaded.load())
    return loaded


@given(
    uncached=st.integers(0, 400_000), read=st.integers(0, 400_000), short=st.integers(0, 100_000),
    long=st.integers(0, 100_000), wrote=st.integers(0, 100_000), batch=st.booleans(),
    model=st.sampled_from(["claude-haiku-5-5", "claude-opus-5-5", "gpt-6.1-sol", "gpt-5.5", "o3", "gpt-4o"]),
)  # fmt: skip
def test_our_sums_are_those_of_the_package(
    lists: PriceList, uncached: int, read: int, short: int, long: int, wrote: int, batch: bool, model: str
) -> None:
    from genai_prices import Usage as Listed
    from genai_prices import calc_price

    claude = model.startswith("claude")
    long = long if claude else 0
    tokens = {
        "input_tokens": uncached + read + short + long,
        "cache_read_tokens": read,
        "cache_write_tokens": short + long,
        "output_tokens": wrote,
    }
    want = calc_price(
        Listed(**tokens, cache_write_1h_tokens=long) if long else Listed(**tokens),
        model,
        provider_id="anthropic" if claude else "openai",
        genai_request_timestamp=NOW,
        price_context={"processing": "batch"} if batch and claude else None,
    ).total_price
    usage = Usage(
        input_tokens=uncached + read + short + long,
        cached_input_tokens=read,
        cache_write_tokens=short + long,
        cache_write_1h_tokens=long or msgspec.UNSET,
        output_tokens=wrote,
    )
    prices = lists.price(
        ANTHROPIC if claude else OPENAI, model, tier="batch" if batch and claude else "", speed="", at=NOW
    )
    parts = usage.parts()
    assert prices is not None
    assert parts is not None
    assert prices.cost(parts) == want


async def test_offline_costs_nothing() -> None:
    tried = attempt()
    await collect(OfflineTarget().stream(REQUEST, tried))
    assert (tried.cost_usd, tried.basis) == (Decimal(0), "provider")


async def test_the_list_is_loaded_when_the_provider_is_warm_and_only_where_a_price_is_wanted() -> None:
    prices = PriceBook(own={"openai/x": OWN})
    opened = open_provider(name="openai", kind="openai", api_key="k", base_url=None, prices=prices)
    loaded = []
    for model in ("x", "y"):
        opened.target(model)
        await opened.warm()
        loaded.append(prices._listed.loaded)
    assert loaded == [False, True]
    await opened.aclose()


async def test_importing_the_adapters_does_not_load_the_list() -> None:
    code = "import sys, app.llm.providers, app.wiring.models; sys.exit('genai_prices' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
