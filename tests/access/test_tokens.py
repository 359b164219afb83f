"""Signed tokens: whose they are, and every way to forge one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from app.access.format import LONGEST
from app.access.jwks import EXCUSED, LIFETIME, MOST_BYTES, REFRESH, RETRY, KeySet
from app.access.tokens import REMEMBERED, TokenRules, Tokens
from app.domain.errors import RequestError
from app.domain.principals import Principal
from app.settings.options import JWT_ALGORITHMS
from tests.access.issuer import AUDIENCE, CLAIMS, ISSUER, URL, Published, Signer
from tests.access.test_known import Clock
from tests.waiting import until

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


@pytest.mark.parametrize("algorithm", JWT_ALGORITHMS)
async def test_a_good_token_of_every_algorithm(algorithm: str) -> None:
    signer = Signer("k", algorithm)
    async with tokens_of(Published(signer.public())) as tokens:
        assert await tokens.principal(signer.token()) == ANN
        assert await tokens.principal(signer.token(aud=["another", AUDIENCE], scope=["usage", "runs"])) == ANN
        await refused(tokens, Signer("k", algorithm).token())


async def test_what_a_token_says() -> None:
    published = Published(SIGNER.public())
    async with tokens_of(published) as tokens:
        for scope, found in (
            (None, {"runs"}), ("", set()), ("openid profile", set()), ("openid runs", {"runs"}), (["admin", 7], {"admin"}),
            ("runs tool:payments tool:A", {"runs", "tool:payments"}),
            (7, set()), ({"runs": True}, set()),
        ):  # fmt: skip
            given = await tokens.principal(SIGNER.token(scope=scope))
            assert given.scopes == found, scope
        for tenant in (None, "", 7, "a b", "x" * 129, ["acme"], "a/b"):
            assert "tenant" in await refused(tokens, SIGNER.token(tenant=tenant))
        for user in ("", "a\nb", "x" * 257, " ann"):
            assert "sub" in await refused(tokens, SIGNER.token(sub=user))
    async with tokens_of(
        published, tenant_claim="org", user_claim="email", scopes_claim="roles", tenant="one", scopes=()
    ) as tokens:
        told = await tokens.principal(SIGNER.token(email="ann@example.com"))
        assert told == Principal(tenant="one", user="ann@example.com", scopes=frozenset(), actor="jwt:ann")
        told = await tokens.principal(SIGNER.token(email="bob", org="two", roles=["runs"], sub="s"))
        assert told == Principal(tenant="two", user="bob", scopes=frozenset({"runs"}), actor="jwt:s")
        await refused(tokens, SIGNER.token())


def raw(header: Any, claims: Any, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def hmac_token(algorithm: str, secret: bytes, kid: str = "one") -> str:
    """Signed with what everybody knows, as a shared secret."""
    unsigned = raw({"alg": algorithm, "kid": kid, "typ": "JWT"}, CLAIMS | {"exp": int(time.time()) + 60}).rpartition(
        "."
    )[0]
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    signature = hmac.new(secret, unsigned.encode(), digest).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def forged() -> dict[str, str]:
    now = int(time.time())
    good = CLAIMS | {"exp": now + 60}
    whole = SIGNER.token()
    header, claims, signature = whole.split(".")
    public = SIGNER.private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    mallory = Signer("one")
    other_claims = raw({}, good | {"tenant": "victim"}).split(".")[1]
    return {
        "unsigned": raw({"alg": "none", "kid": "one"}, good),
        "unsigned, in capitals": raw({"alg": "NoNe", "kid": "one"}, good),
        "no algorithm": raw({"kid": "one"}, good),
        "an algorithm that is none": raw({"alg": ["RS256"], "kid": "one"}, good),
        **{f"{name} with the public key as {form}": hmac_token(name, secret)
           for name in ("HS256", "HS384", "HS512") for form, secret in (("PEM", pem), ("DER", der))},
        "HS256 with an empty secret": hmac_token("HS256", b""),
        "another's signature": mallory.token(),
        "another's key in the header": mallory.token({"jwk": mallory.public()}),
        "another's key behind a URL": mallory.token({"jku": "https://mallory.example/keys", "x5u": "https://mallory.example/"}),
        "other claims under a signature": f"{header}.{other_claims}.{signature}",
        "no signature": f"{header}.{claims}.",
        "half a signature": whole[:-20],
        "an algorithm that the key is not for": mallory.token({"alg": "PS256"}),
        "another algorithm in the header": f"{raw({'alg': 'ES256', 'kid': 'one'}, {}).split('.')[0]}.{claims}.{signature}",
        "a critical extension": raw_signed(good, crit=["b64"], b64=True),
        "an algorithm that its own key is not published for": jwt.encode(good, SIGNER.private, "PS256", {"kid": "one"}),
        "an unknown critical extension": SIGNER.token({"crit": ["x"], "x": 1}),
        "a kid that is no text": f"{raw({'alg': 'RS256', 'kid': 7}, {}).split('.')[0]}.{claims}.{signature}",
        "a kid that is a path": SIGNER.token({"kid": "../../../../dev/null"}),
        "a kid that is a statement": SIGNER.token({"kid": "' OR 1=1 --"}),
        "a kid that is a URL": SIGNER.token({"kid": "https://mallory.example/keys"}),
        "a kid of another key": SIGNER.token({"kid": "two"}),
        "another kind of token": SIGNER.token({"typ": "logout+jwt"}),
        "another audience": SIGNER.token(aud="another"),
        "no audience": SIGNER.token(aud=None),
        "an audience that begins like ours": SIGNER.token(aud=AUDIENCE + "-admin"),
        "another issuer": SIGNER.token(iss=ISSUER + "/"),
        "no issuer": SIGNER.token(iss=None),
        "expired": SIGNER.token(exp=now - 31),
        "no expiry": SIGNER.token(exp=None),
        "an expiry that is a text": raw_signed(good | {"exp": "never"}),
        "an expiry that is no number": raw_signed(good | {"exp": float("nan")}),
        "an endless expiry": raw_signed(good | {"exp": float("inf")}),
        "an expiry that is true": raw_signed(good | {"exp": True}),
        "not yet": SIGNER.token(nbf=now + 60),
        "issued tomorrow": SIGNER.token(iat=now + 86_400),
        "huge": SIGNER.token(padding="x" * LONGEST),
        "deep": f"{base64.urlsafe_b64encode(b'[' * 4000).decode()}.{claims}.{signature}",
        "claims that are a list": raw_signed([good]),
        "no JSON": "e30.e30.e30",
        "two dots": "..",
        "not ASCII": whole[:-1] + "é",
        "a lone surrogate": whole + "\udc80",
        "white space": whole.replace(".", " . "),
    }  # fmt: skip


def raw_signed(claims: Any, **header: Any) -> str:
    """What jwt.encode would not sign."""
    unsigned = raw({"alg": "RS256", "kid": "one", "typ": "JWT"} | header, claims).rpartition(".")[0]
    signature = jwt.get_algorithm_by_name("RS256").sign(unsigned.encode(), SIGNER.private)
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def test_every_forged_token_is_refused() -> None:
    published = Published(SIGNER.public(), OTHER.public())
    async with tokens_of(published) as tokens:
        assert await tokens.principal(SIGNER.token()) == ANN
        assert await tokens.principal(raw_signed(CLAIMS | {"exp": int(time.time()) + 60})) == ANN, (
            "the forger's tool works"
        )
        for name, token in forged().items():
            try:
                await refused(tokens, token)
            except BaseException as error:
                raise AssertionError(name) from error
        assert published.asked <= 2, "strangers do not make us ask"


async def test_what_is_missing_is_said() -> None:
    async with tokens_of(Published(SIGNER.public())) as tokens:
        assert "has no `exp`" in await refused(tokens, SIGNER.token(exp=None))
        for claims in ({"aud": None}, {"iss": None}, {"aud": "another"}, {"iss": "another"}):
            assert "auth.jwt_issuer and auth.jwt_audience" in await refused(tokens, SIGNER.token(**claims))


async def test_an_algorithm_that_is_not_allowed() -> None:
    async with tokens_of(Published(SIGNER.public(), OTHER.public()), algorithms=("ES256",)) as tokens:
        assert await tokens.principal(OTHER.token()) == ANN
        assert "algorithm" in await refused(tokens, SIGNER.token())


async def test_clocks_may_differ_a_little() -> None:
    clock, now = Clock(), time.time()
    async with tokens_of(Published(SIGNER.public()), clock, leeway=30.0) as tokens:
        token = SIGNER.token(exp=int(now) - 20, nbf=int(now) + 20)
        assert await tokens.principal(token) == ANN
        clock.now += 15
        await refused(tokens, token)  # also where its signature is remembered


async def test_a_remembered_token_expires_and_is_verified_again() -> None:
    clock, published = Clock(), Published(SIGNER.public())
    async with tokens_of(published, clock, leeway=0.0) as tokens:
        token = SIGNER.token(exp=int(time.time()) + 3600)
        assert await tokens.principal(token) == ANN
        clock.now += REMEMBERED + 1
        assert await tokens.principal(token) == ANN
        clock.now += 3600
        await refused(tokens, token)


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
