"""Whose a batch is stands in its statements: asked by themselves, without the service that looks before it asks."""

from __future__ import annotations

import pytest

from app.domain.batches import BatchItem, NewBatch
from app.domain.principals import Principal
from app.domain.usage import Caps
from app.storage.postgres.batches import PostgresBatchStore
from app.storage.postgres.pool import open_pool

ANN = Principal(tenant="a", user="ann")
ADMIN = Principal(tenant="a", user="carl", scopes=frozenset({"admin"}))
BATCH = NewBatch(
    id="batch_1", user_id="ann", agent="tagger", agent_version="v", route="default", provider="p", model="m", tags={},
    window=60.0, items=[BatchItem(custom_id="1", input="x")], parts=[0], metered=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "stranger",
    [Principal(tenant="b"), Principal(tenant="b", user="ann"), Principal(tenant="a", user="bob")],
    ids=["another tenant", "another tenant's user", "another user"],
)
async def test_a_stranger_reads_and_cancels_nothing(database: str, stranger: Principal) -> None:
    async with open_pool(database) as pool:
        store = PostgresBatchStore(database=pool, caps=Caps())
        await store.create(ANN, BATCH)
        assert await store.batch(stranger, BATCH.id) is None
        assert await store.batches(stranger, None, 10) == []
        assert await store.results(stranger, BATCH.id, -1, 10) == []
        await store.cancel(stranger, BATCH.id)
        for owner in (ANN, Principal(tenant="a"), ADMIN):
            found = await store.batch(owner, BATCH.id)
            assert found is not None
            assert found.cancelled_at is None
            assert len(await store.results(owner, BATCH.id, -1, 10)) == 1
        await store.cancel(ANN, BATCH.id)
        found = await store.batch(ANN, BATCH.id)
        assert found is not None
        assert found.cancelled_at is not None
