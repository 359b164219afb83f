"""Tokens of an issuer of the tests, and what is asked of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.access.jwks import KeySet
from app.access.tokens import TokenRules, Tokens
from app.domain.errors import RequestError
from app.domain.principals import Principal
from app.settings.options import JWT_ALGORITHMS
from tests.access.issuer import AUDIENCE, ISSUER, URL, Published, Signer
from tests.access.test_known import Clock

SIGNER = Signer("one")


OTHER = Signer("two", "ES256")


ANN = Principal(tenant="acme", user="ann", scopes=frozenset({"runs", "usage"}), actor="jwt:ann")


@asynccontextmanager
async def tokens_of(
    published: Published, clock: Clock | None = None, algorithms: tuple[str, ...] = JWT_ALGORITHMS, **rules: Any
) -> AsyncIterator[Tokens]:
    async with published.client() as http:
        clock = clock or Clock()
        keys = KeySet(http=http, url=URL, algorithms=algorithms, clock=clock)
        asked = TokenRules(issuer=ISSUER, audience=AUDIENCE, algorithms=algorithms, **rules)
        yield Tokens(keys=keys, rules=asked, clock=clock, now=lambda: time.time() + clock.now - 1000.0)
        await keys.aclose()


async def refused(tokens: Tokens, token: str, code: str = "unauthenticated") -> str:
    with pytest.raises(RequestError) as caught:
        await tokens.principal(token)
    assert caught.value.code == code
    for part in token.split("."):
        assert len(part) < 8 or part not in caught.value.detail
    return caught.value.detail
