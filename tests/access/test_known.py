"""What a process knows of keys: how old it may be, what it costs, and what it does without the database. By a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest

from app.access.authentication import Authentication
from app.access.format import digest_of, new_key
from app.access.known import FRESH, LOOKUPS, SAME_USE, STALE, KnownKeys
from app.domain.access import ApiKey, KeyState, NewKey, Valid
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import Principal
from tests.waiting import until

ANN = Principal(tenant="a", user="ann", actor="key:k")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Keys:
    """A store whose keys the test sets; counts what it is asked."""

    def __init__(self) -> None:
        self.changes = 1
        self.valid_ones: dict[bytes, Valid] = {}
        self.free_form: set[bytes] = set()
        self.asked: list[str] = []
        self.away = False
        self.gate: asyncio.Event | None = None
        self.looking = self.most = 0
        self.silent: asyncio.Event | None = None
        self.noted: list[dict[str, float]] = []

    def put(self, text: str, seconds: float | None = None) -> None:
        self.valid_ones[digest_of(text)] = Valid(id=text[:16], principal=ANN, seconds=seconds)
        self.changes += 1

    def drop(self, text: str) -> None:
        del self.valid_ones[digest_of(text)]
        self.changes += 1

    async def _silence(self) -> None:
        """As a pool with a connection that says nothing: who leaves it is kept there."""
        if self.silent is not None:
            with suppress(asyncio.CancelledError):
                await self.silent.wait()
            await self.silent.wait()

    async def state(self) -> KeyState:
        self.asked.append("state")
        await self._silence()
        if self.away:
            raise DatabaseUnavailable("away")
        return KeyState(changes=self.changes, free_form=frozenset(self.free_form))

    async def valid(self, digests: Sequence[bytes]) -> dict[bytes, Valid]:
        self.asked.append("valid")
        await self._silence()
        if self.away:
            raise DatabaseUnavailable("away")
        found = {digest: self.valid_ones[digest] for digest in digests if digest in self.valid_ones}
        self.looking += 1
        self.most = max(self.most, self.looking)
        if self.gate is not None:
            await self.gate.wait()
        self.looking -= 1
        return found

    async def used(self, ages: Mapping[str, float]) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        self.noted.append(dict(ages))

    async def create(self, by: Principal, key: NewKey) -> ApiKey | None:
        raise NotImplementedError

    async def by_digest(self, digest: bytes) -> ApiKey | None:
        raise NotImplementedError

    async def keys(self, tenant: str | None) -> list[ApiKey]:
        raise NotImplementedError

    async def revoke(self, by: Principal, key_id: str) -> ApiKey | None:
        raise NotImplementedError

    async def usable(self) -> int:
        raise NotImplementedError


async def test_a_known_key_costs_nothing_while_it_is_fresh() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    for _ in range(100):
        assert await known.find(key) == ANN
    assert store.asked == ["state", "valid"]
    for _ in range(50):  # of one process under load, in ten times `FRESH`
        clock.now += FRESH / 5
        assert await known.find(key) == ANN
        await asyncio.sleep(0)
    assert store.asked.count("valid") == 1
    assert store.asked.count("state") <= 12
    await known.aclose()


async def test_a_revoked_key_is_refused_when_what_was_known_is_stale() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    assert await known.find(key) == ANN
    store.drop(key)
    clock.now += 0.9  # a change is heeded within a second, which is no matter of taste
    assert await known.find(key) is None
    store.put(key)
    clock.now += 2 * STALE
    assert await known.find(key) == ANN, "what was refused once is not refused for ever"


async def test_between_fresh_and_stale_nobody_waits() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    assert await known.find(key) == ANN
    store.away = True
    clock.now += (FRESH + STALE) / 2
    assert await known.find(key) == ANN
    clock.now += 2 * STALE
    with pytest.raises(DatabaseUnavailable):
        await known.find(key)
    assert known.keyed is True
    store.away = False
    assert await known.find(key) == ANN


async def test_an_expiry_needs_no_question() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key, seconds=FRESH / 2)
    assert await known.find(key) == ANN
    clock.now += FRESH / 2
    assert await known.find(key) is None


async def test_garbage_is_refused_without_a_look_up() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    for garbage in ("", "x", key[:-1], key + "0", key.lower(), "sth_" + "0" * 51, "\udc80"):
        assert await known.find(garbage) is None
    assert store.asked == ["state"]
    unknown, _ = new_key()
    for _ in range(3):
        assert await known.find(unknown) is None
    assert store.asked == ["state", "valid"], "a key that is not there is remembered too"


async def test_a_key_that_an_operator_wrote_is_known_by_its_digest() -> None:
    store, clock = Keys(), Clock()
    known = KnownKeys(store=store, clock=clock)
    store.put("an-operators-own-secret-key")
    assert await known.find("an-operators-own-secret-key") is None
    store.free_form.add(digest_of("an-operators-own-secret-key"))
    store.changes += 1
    clock.now += 2 * STALE
    assert await known.find("an-operators-own-secret-key") == ANN


async def test_a_flood_of_strange_keys_takes_few_connections() -> None:
    store, clock = Keys(), Clock()
    known = KnownKeys(store=store, clock=clock)
    store.gate = asyncio.Event()
    strange = [asyncio.create_task(known.find(new_key()[0])) for _ in range(50)]
    await until(lambda: store.looking == LOOKUPS)
    store.gate.set()
    assert await asyncio.gather(*strange) == [None] * 50
    assert store.most == LOOKUPS
    assert store.asked.count("state") == 1, "who comes while it is being asked waits for the same answer"


async def test_a_key_that_changes_while_it_is_looked_up_is_looked_up_again() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    store.gate = asyncio.Event()
    looking = asyncio.create_task(known.find(key))
    await until(lambda: store.looking == 1)
    store.drop(key)  # after it was read, before that is remembered
    clock.now += 2 * STALE
    assert (await known.state()).changes == store.changes
    store.gate.set()
    await looking
    assert await known.find(key) is None


async def test_many_keys_are_looked_up_by_one_question() -> None:
    store, clock = Keys(), Clock()
    known = KnownKeys(store=store, clock=clock)
    keys = [new_key()[0] for _ in range(500)]
    for key in keys:
        store.put(key)
    access = Authentication(keys=known, tokens=None, keyless="never")
    assert await access.refused([None, *keys, "no key"]) == [None, "no key"]
    assert store.asked == ["state", "valid"]
    assert await access.refused(keys) == []
    assert store.asked == ["state", "valid"], "nothing has changed"
    store.drop(keys[7])
    clock.now += (FRESH + STALE) / 2
    assert await access.refused(keys) == [keys[7]], "at the first look after `FRESH`"
    assert store.asked == ["state", "valid", "state", "valid"]
    store.away = True
    clock.now += 2 * STALE
    assert await access.refused(keys) == []
    await known.aclose()


async def test_a_flood_of_strange_keys_does_not_keep_a_revoked_one_open() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    access = Authentication(keys=known, tokens=None, keyless="never")
    assert await access.principal(key) == ANN
    store.gate = asyncio.Event()
    strange = [asyncio.create_task(known.find(new_key()[0])) for _ in range(50)]
    await until(lambda: store.looking == LOOKUPS)
    store.drop(key)
    clock.now += (FRESH + STALE) / 2
    looking = asyncio.create_task(access.refused([key]))
    await until(lambda: store.looking == LOOKUPS + 1)
    store.gate.set()
    assert await looking == [key]
    await asyncio.gather(*strange)
    await known.aclose()


async def test_nobody_waits_for_a_silent_database_for_longer_than_its_patience() -> None:
    store, clock = Keys(), Clock()
    known, (key, _), (other, _) = KnownKeys(store=store, clock=clock, patience=0.01), new_key(), new_key()
    store.put(key)
    store.put(other)
    assert await known.find(key) == ANN
    store.silent = asyncio.Event()
    async with asyncio.timeout(10.0):  # the silence outlasts it
        with pytest.raises(DatabaseUnavailable):
            await known.find(other)
        clock.now += 2 * STALE
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                await known.find(key)
        await known.aclose()
    store.silent.set()
    assert await known.find(other) == ANN
    await known.aclose()


async def test_uses_are_noted_now_and_then() -> None:
    store, clock = Keys(), Clock()
    known, (key, _) = KnownKeys(store=store, clock=clock), new_key()
    store.put(key)
    await known.find(key)
    clock.now += 5
    await known.note()
    assert store.noted == [{key[:16]: 5.0}]
    await known.find(key)
    await known.note()
    assert len(store.noted) == 1, "it was noted a moment ago"
    clock.now += SAME_USE
    await known.note()
    assert store.noted[1:] == [{key[:16]: SAME_USE}]
    clock.now += SAME_USE
    await known.note()
    assert len(store.noted) == 2, "it was not used since then"
    await known.find(key)
    store.away = True
    with pytest.raises(DatabaseUnavailable):
        await known.note()
    store.away = False
    await known.note()
    assert store.noted[2:] == [{key[:16]: 0.0}]
    await known.aclose()
