"""Whose streams are ended while the database is away."""

from __future__ import annotations

import asyncio
from functools import partial

from app.api.revocations import Revocations
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.principals import ANONYMOUS, Principal
from tests.waiting import until


class Half:
    """Keys cannot be looked at, tokens can: one has expired."""

    async def principal(self, credential: str | None) -> Principal:
        if credential == "key":
            raise DatabaseUnavailable("away")
        if credential == "expired":
            raise RequestError("unauthenticated", "expired")
        return ANONYMOUS


async def test_a_key_that_cannot_be_looked_at_keeps_no_expired_token_open() -> None:
    revocations, cut = Revocations(authentication=Half(), every=0.001), list[str]()
    for credential in ("key", "expired", "valid"):
        revocations.enter(credential, partial(cut.append, credential))
    serving = asyncio.create_task(revocations.serve())
    await until(lambda: len(cut) > 1)
    serving.cancel()
    assert set(cut) == {"expired"}
