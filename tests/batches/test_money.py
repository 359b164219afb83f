"""What batches cost: half, to the last digit, once for each answer, in the ledger like everything else."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from app.batches.service import WantedBatch
from app.domain.batches import BatchItem
from app.domain.errors import RequestError
from app.domain.messages import Usage
from app.domain.models import Attempt
from app.domain.usage import Caps, UsageQuery
from app.llm.prices import PriceBook, Vendor
from app.llm.providers import ANTHROPIC_URL, OPENAI_URL
from app.runs.ids import new_id
from app.storage.postgres.usage import PostgresUsageLedger
from tests.batches.conftest import Open
from tests.batches.vendor import Errs
from tests.batches.vendor import Vendor as Remote
from tests.batches.world import ANN, COST, Kind, World

USED = Usage(input_tokens=1_000, cached_input_tokens=400, output_tokens=100)


@pytest.mark.parametrize(
    ("provider", "model", "url", "whole", "half"),
    [
        ("openai", "gpt-5.4-mini", OPENAI_URL, "0.00093", "0.000465"),
        ("openai", "gpt-6.1-sol", OPENAI_URL, "0.00224", "0.00112"),
        ("anthropic", "claude-haiku-4-5", ANTHROPIC_URL, "0.00114", "0.00057"),
        ("anthropic", "claude-opus-5-5", ANTHROPIC_URL, "0.00448", "0.00224"),
    ],
)
async def test_list_prices_are_halved(provider: str, model: str, url: str, whole: str, half: str) -> None:
    prices = PriceBook(own={}).target(provider, model, Vendor(url=url))
    await prices.ready()
    costs = []
    for tier in ("", "batch"):
        attempt = Attempt(
            number=1, provider=provider, model=model, started=time.monotonic(), usage=USED, basis="provider"
        )
        attempt.service_tier = tier
        prices.settle(attempt, None)
        costs.append(attempt.cost_usd)
    assert costs == [Decimal(whole), Decimal(half)]


async def ledger(w: World) -> list[tuple[str, str, str, int, Decimal]]:
    rows = await w.db.fetch("SELECT kind, owner, model, input_tokens, cost_usd FROM usage ORDER BY id")
    return [tuple(row) for row in rows]


async def test_every_answer_is_in_the_ledger_once(world: Open, remote: Remote, kind: Kind) -> None:
    remote.repeated = True
    remote.answers = {"bad": Errs(400, "invalid_request_error"), "slow": ["expired", "late"]}
    async with world(kind) as w:
        batch = await w.create("a", "bad", "slow", "b")
        await w.finish(batch.id)
        assert await ledger(w) == [("batch", "ann", "model-1", 1_000, COST)] * 3
        report = await PostgresUsageLedger(database=w.db, caps=Caps()).report(ANN, UsageQuery(group_by="agent"))
        assert [(group.key, group.requests) for group in report.data] == [("tagger", 3)]
        spent = await w.db.fetch("SELECT scope, spent, reserved FROM budgets ORDER BY scope")
        assert [tuple(row) for row in spent] == [("tenant", 3 * COST, 0), ("user", 3 * COST, 0)]


async def test_tags_of_the_batch_and_of_its_items_are_in_the_ledger(world: Open, remote: Remote) -> None:
    async with world("anthropic") as w:
        items = [BatchItem(custom_id=str(n), input="x", tags={"feature": f"f{n}"}) for n in range(2)]
        wanted = WantedBatch(agent=None, items=items, window=3600, tags={"team": "t", "feature": "none"})
        batch = await w.service.create(ANN, wanted, new_id("batch"))
        await w.finish(batch.id)
        usage = PostgresUsageLedger(database=w.db, caps=Caps())
        for tag, keys in (("team", ["t"]), ("feature", ["f0", "f1"])):
            report = await usage.report(ANN, UsageQuery(group_by=f"tag:{tag}"))
            assert [group.key for group in report.data] == keys


async def test_a_month_without_money_takes_no_batch(world: Open, remote: Remote) -> None:
    async with world("anthropic", caps=Caps(tenant=COST)) as w:
        first = await w.create("a")
        await w.finish(first.id)
        with pytest.raises(RequestError) as refused:
            await w.create("b")
        assert refused.value.code == "budget_exhausted"
        assert [found.id for found in await w.service.batches(ANN, None, 10)] == [first.id]
