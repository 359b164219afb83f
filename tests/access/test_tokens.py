"""Signed tokens: whose they are, and every way to forge one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from app.access.format import LONGEST
from app.access.tokens import REMEMBERED
from app.domain.principals import Principal
from app.settings.options import JWT_ALGORITHMS
from tests.access.issuer import AUDIENCE, CLAIMS, ISSUER, Published, Signer
from tests.access.test_known import Clock
from tests.access.tokens import ANN, OTHER, SIGNER, refused, tokens_of


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
