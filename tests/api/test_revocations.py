"""What is open is ended for those who are refused, and for nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from functools import partial

import pytest

from app.access.authentication import Authentication
from app.access.known import KnownKeys
from app.api.revocations import Revocations
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import ANONYMOUS, Principal
from tests.access.issuer import Published, Signer
from tests.access.test_known import Clock, Keys
from tests.access.tokens import tokens_of
from tests.waiting import until


class Refuses:
    """One credential, from its second look on: the first one fails."""

    def __init__(self) -> None:
        self.looks = 0

    async def principal(self, credential: str | None) -> Principal:
        return ANONYMOUS

    async def refused(self, credentials: Collection[str | None]) -> list[str | None]:
        self.looks += 1
        if self.looks == 1:
            raise ZeroDivisionError
        return [credential for credential in credentials if credential == "revoked"]


async def test_what_is_open_for_a_refused_credential_is_cut() -> None:
    revocations, cut = Revocations(authentication=Refuses(), every=0.001), list[str | None]()
    for credential in ("revoked", "revoked", "valid", None):
        revocations.enter(credential, partial(cut.append, credential))
    revocations.enter("revoked", partial(cut.append, "over"))()
    serving = asyncio.create_task(revocations.serve())
    await until(lambda: len(cut) > 1)
    serving.cancel()
    assert set(cut) == {"revoked"}


async def test_a_key_that_cannot_be_looked_at_keeps_no_expired_token_open() -> None:
    signer, store, clock = Signer("one"), Keys(), Clock()
    async with tokens_of(Published(signer.public()), clock) as tokens:
        known = KnownKeys(store=store, clock=clock)
        access = Authentication(keys=known, tokens=tokens, keyless="never")
        open_ones = ["a key", expiring := signer.token(), lasting := signer.token(exp=int(time.time()) + 3600)]
        store.away = True
        with pytest.raises(DatabaseUnavailable):
            await access.principal("a key")
        assert await access.refused(open_ones) == []
        clock.now += 120
        assert await access.refused(open_ones) == [expiring]
        assert lasting != expiring
        await known.aclose()
