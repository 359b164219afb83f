"""Somebody who signs tokens, and publishes keys for them."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://issuer.example", "steadyhand"
URL = "https://issuer.example/keys"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "scope": "runs usage"}


class Signer:
    """A key pair with a name, for one algorithm."""

    def __init__(self, kid: str | None, algorithm: str = "RS256", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = _private(algorithm, bits)

    def public(self, **more: Any) -> dict[str, Any]:
        """The key as it is published."""
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**made, **named, "use": "sig", "alg": self.algorithm, **more}

    def token(self, header: dict[str, Any] | None = None, now: float | None = None, **claims: Any) -> str:
        """A token that is good for a minute, but for what is said; a claim that is None is left out."""
        at = time.time() if now is None else now
        said = CLAIMS | {"iat": int(at), "exp": int(at) + 60} | claims
        headers = ({} if self.kid is None else {"kid": self.kid}) | (header or {})
        return jwt.encode(
            {name: claim for name, claim in said.items() if claim is not None}, self.private, self.algorithm, headers
        )


def _private(algorithm: str, bits: int) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Published:
    """What the issuer's URL answers; the test changes it. Counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.status = 200
        self.body: bytes | None = None
        self.broken = False
        self.asked = 0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        assert str(request.url) == URL
        assert "authorization" not in request.headers
        if self.broken:
            raise httpx2.ConnectError("refused", request=request)
        content = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return httpx2.Response(self.status, content=content, headers={"Location": "https://elsewhere.example/"})

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))
