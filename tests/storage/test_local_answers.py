"""The bounds of a process's own memory of answers, under a clock that only the test moves."""

from __future__ import annotations

from app.domain.cache import Kept, Selection, labels
from app.storage.local.answers import MOST_ENTRIES, PER_ENTRY, LocalAnswers

NAMES = labels("acme", "chat", None, {})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def put(store: LocalAnswers, key: str, content: str = "x", seconds: float = 60.0) -> bool:
    return await store.put(key, Kept(content, None, NAMES), seconds, await store.stamp(NAMES))


async def test_no_more_than_a_thousand_and_those_used_longest_ago_go_first() -> None:
    store = LocalAnswers()
    for n in range(MOST_ENTRIES):
        await put(store, str(n))
    assert await store.get("0") is not None
    await put(store, "one more")
    assert len(store) == MOST_ENTRIES == 1000
    assert await store.get("1") is None
    assert await store.get("0") is not None
    assert store.size == MOST_ENTRIES * (PER_ENTRY + 1)


async def test_no_more_than_so_many_bytes() -> None:
    store = LocalAnswers(most_bytes=5 * (PER_ENTRY + 4000))
    for n in range(9):
        await put(store, str(n), "é" * 2000)
    assert len(store) == 5
    assert await store.get("3") is None
    await put(store, "8", "small")
    await put(store, "huge", "x" * 40_000)
    assert len(store) == 0
    assert store.size == 0


async def test_an_answer_ends_with_its_time() -> None:
    clock = Clock()
    store = LocalAnswers(clock=clock)
    await put(store, "k", seconds=10)
    clock.now += 9.5
    found = await store.get("k")
    assert found is not None
    assert found.seconds == 0.5
    clock.now += 0.5
    assert await store.get("k") is None
    assert len(store) == 0


async def test_drops_that_are_forgotten_count_against_what_was_begun_before() -> None:
    store = LocalAnswers(remembered=2)
    begun = await store.stamp(NAMES)
    for tag in ("a", "b", "c"):
        store.discard(Selection(tag=tag).labels("acme"))
    assert not await store.put("k", Kept("x", None, NAMES), 60, begun)
    assert await put(store, "k")


async def test_after_a_clear_nothing_is_kept_that_was_begun_before() -> None:
    store = LocalAnswers()
    begun = await store.stamp(NAMES)
    await put(store, "k")
    store.clear()
    assert (await store.get("k"), len(store), store.size) == (None, 0, 0)
    assert not await store.put("k", Kept("x", None, NAMES), 60, begun)
    assert await put(store, "k")
