"""The keys of a token issuer: kept, changed, withdrawn, and away."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest

from app.access.jwks import EXCUSED, LIFETIME, MOST_BYTES, REFRESH, RETRY
from tests.access.issuer import Published, Signer
from tests.access.test_known import Clock
from tests.access.tokens import ANN, OTHER, SIGNER, refused, tokens_of
from tests.waiting import until


async def test_keys_are_changed_without_anybody_noticing() -> None:
    clock, published, new = Clock(), Published(SIGNER.public()), Signer("new")
    async with tokens_of(published, clock) as tokens:
        old = SIGNER.token(exp=int(time.time()) + 86_400)
        await tokens.principal(old)
        published.keys = [SIGNER.public(), new.public()]
        clock.now += RETRY + 1
        assert await tokens.principal(new.token(exp=int(time.time()) + 86_400)) == ANN
        assert published.asked == 2
        published.keys = [new.public()]  # the old one is withdrawn
        clock.now += REFRESH + 1
        await tokens.principal(old)
        await until(lambda: published.asked == 3)
        await asyncio.sleep(0)
        await refused(tokens, old)  # though its signature was verified a moment ago


async def test_a_key_that_was_withdrawn_while_nobody_came_is_not_trusted_once_more() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    async with tokens_of(published, clock) as tokens:
        old = [SIGNER.token(exp=int(time.time()) + 86_400, n=n) for n in range(5)]
        await tokens.principal(old[0])
        published.keys = [OTHER.public()]
        clock.now += LIFETIME + 1
        await asyncio.gather(*(refused(tokens, token) for token in old))
        assert published.asked == 2, "all of them wait for one answer"


async def test_that_the_issuer_is_back_is_seen_without_a_token() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    published.status = 500
    async with tokens_of(published, clock) as tokens:
        await refused(tokens, SIGNER.token(), "not_ready")
        published.status = 200
        assert [tokens.failing() for _ in range(3)] == ["HTTP 500"] * 3
        assert published.asked == 1, "not for each who asks"
        clock.now += RETRY + 1
        await until(lambda: tokens.failing() is None)
        assert published.asked == 2


async def test_a_failed_fetch_excuses_old_keys_for_a_while() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    async with tokens_of(published, clock) as tokens:
        tomorrow = int(time.time()) + 86_400
        await tokens.principal(SIGNER.token(exp=tomorrow))
        published.broken = True
        clock.now += LIFETIME + 1
        assert await tokens.principal(SIGNER.token(exp=tomorrow, n=1)) == ANN
        assert published.asked == 2
        published.broken, published.keys = False, [OTHER.public()]
        clock.now += EXCUSED / 2
        assert await tokens.principal(SIGNER.token(exp=tomorrow, n=2)) == ANN, "nobody waits"
        await until(lambda: published.asked == 3)
        published.broken, published.keys = True, [SIGNER.public()]
    async with tokens_of(published, clock) as tokens:
        published.broken = False
        await tokens.principal(SIGNER.token(exp=tomorrow))
        published.broken = True
        clock.now += LIFETIME + 1
        await tokens.principal(SIGNER.token(exp=tomorrow, n=1))
        published.broken, published.keys = False, [OTHER.public()]
        clock.now += EXCUSED + 1
        await refused(tokens, SIGNER.token(exp=tomorrow, n=2))


async def test_strange_keys_are_asked_for_now_and_then_and_once() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    async with tokens_of(published, clock) as tokens:
        good = await asyncio.gather(*(tokens.principal(SIGNER.token(n=n)) for n in range(20)))
        assert set(good) == {ANN}
        assert published.asked == 1
        for round in range(1, 4):
            clock.now += RETRY + 1
            for n in range(20):
                await refused(tokens, Signer(f"strange {n}", "ES256").token())
            assert published.asked == 1 + round
        clock.now += RETRY + 1
        strange = [asyncio.create_task(refused(tokens, Signer(f"s{n}", "ES256").token())) for n in range(20)]
        await asyncio.gather(*strange)
        assert published.asked == 5


async def test_while_the_issuer_is_away_its_known_keys_go_on() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    published.broken = True
    async with tokens_of(published, clock) as tokens:
        assert "cannot be had" in await refused(tokens, SIGNER.token(), "not_ready")
        assert tokens.failing()
        published.broken = False
        await refused(tokens, SIGNER.token(), "not_ready")
        assert published.asked == 1, "not for each request"
        clock.now += RETRY + 1
        assert await tokens.principal(SIGNER.token()) == ANN
        assert not tokens.failing()
        published.broken = True
        clock.now += LIFETIME + 1
        token = SIGNER.token(exp=int(time.time()) + 86_400)
        assert await tokens.principal(token) == ANN
        await until(lambda: tokens.failing() is not None)
        clock.now += 10 * LIFETIME
        assert await tokens.principal(token) == ANN
        await refused(tokens, Signer("strange").token(), "not_ready")  # whether it is good cannot be known


@pytest.mark.parametrize(
    "what",
    [
        "no JSON",
        "a list",
        "no keys",
        "empty",
        "too much",
        "a failure",
        "elsewhere",
        "a small key",
        "a secret",
        "a private key",
    ],
)
async def test_an_answer_without_keys_is_none(what: str) -> None:
    published = Published(SIGNER.public())
    match what:
        case "no JSON":
            published.body = b"<html>"
        case "a list":
            published.body = b"[]"
        case "no keys":
            published.body = b'{"keys": 7}'
        case "empty":
            published.keys = []
        case "too much":
            published.body = b" " * MOST_BYTES + b"{}"
        case "a failure":
            published.status = 500
        case "elsewhere":
            published.status = 302
        case "a small key":
            published.keys = [Signer("one", bits=1024).public()]
        case "a secret":
            published.keys = [{"kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "HS256"}]
        case "a private key":
            published.keys = [SIGNER.public(**private(SIGNER))]
    async with tokens_of(published) as tokens:
        await refused(tokens, SIGNER.token(), "not_ready")


def private(signer: Signer) -> dict[str, Any]:
    """What an issuer must not publish: whoever has it signs for everybody."""
    made: dict[str, Any] = jwt.get_algorithm_by_name(signer.algorithm).to_jwk(signer.private, as_dict=True)
    return {name: made[name] for name in ("d", "p", "q", "dp", "dq", "qi")}


async def test_one_bad_key_does_not_keep_the_others_out() -> None:
    bad = [
        {"kty": "RSA", "kid": "x"},
        {"kid": "y"},
        7,
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
        {"kty": "RSA", "n": 7},
    ]
    encrypting = Signer("enc").public(use="enc")
    async with tokens_of(Published(*bad, encrypting, SIGNER.public())) as tokens:  # type: ignore[arg-type]  # as bad as they come
        assert await tokens.principal(SIGNER.token()) == ANN


async def test_a_token_that_names_no_key_is_of_the_only_one() -> None:
    nameless = Signer(None)
    async with tokens_of(Published(nameless.public(), OTHER.public())) as tokens:
        assert await tokens.principal(nameless.token()) == ANN
    async with tokens_of(Published(nameless.public(), SIGNER.public())) as tokens:
        await refused(tokens, nameless.token())
