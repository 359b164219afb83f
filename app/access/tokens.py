"""Signed tokens (RFC 7519, as RFC 8725 has them used): whose they are, and what they allow."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec

from app.access.format import LONGEST
from app.access.jwks import KeySet, KeysUnavailable
from app.access.keys import is_tenant, is_user
from app.domain.errors import RequestError
from app.domain.principals import Principal, is_scope

REMEMBERED = 60.0
"""Seconds for which a signature is not verified again."""
MOST = 10_000
"""Tokens that are remembered."""
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a token, and where in it things stand. `leeway`: seconds that clocks may differ.

    `tenant`: whose tokens are that name no tenant (None: they are refused); `scopes`: what those may do that name no scopes.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway: float = 30.0
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    scopes_claim: str = "scope"
    tenant: str | None = None
    scopes: tuple[str, ...] = ("runs",)


class _Verified(msgspec.Struct, frozen=True):
    """A token that was good. `expires`: Unix time; `until`: the clock's time from which it is verified again."""

    principal: Principal
    expires: float
    until: float
    generation: int


class Tokens:
    """Verifies tokens. Lives in one event loop."""

    def __init__(
        self,
        *,
        keys: KeySet,
        rules: TokenRules,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` is Unix time."""
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._now = now
        self._known: dict[bytes, _Verified] = {}

    def failing(self) -> str | None:
        """Why the issuer's keys could not be fetched the last time; asks again now and then, whether or not tokens come."""
        return self._keys.failing()

    async def principal(self, token: str) -> Principal:
        """Whose token that is. Raises `RequestError`: unauthenticated, not_ready where the issuer's keys cannot be had."""
        if len(token) > LONGEST:
            raise _refused(f"it has more than {LONGEST} characters")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if (
            known is not None
            and known.generation == self._keys.generation
            and self._clock() < known.until
            and self._now() < known.expires
        ):
            return known.principal
        principal, expires = await self._verified(token)
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[digest] = _Verified(principal, expires, self._clock() + REMEMBERED, self._keys.generation)
        return principal

    async def _verified(self, token: str) -> tuple[Principal, float]:
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in rules.algorithms or "crit" in header:
                raise jwt.InvalidAlgorithmError("its algorithm is not one of auth.jwt_algorithms")
            if str(header.get("typ", "jwt")).lower() not in _TYPES:
                raise jwt.InvalidTokenError("it is a token for something else")
            key = await self._keys.key(kid, algorithm)
            if key is None:
                raise jwt.InvalidKeyError("its issuer has no such key")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=0,
                # Times are judged below, by the same clock as later, when the signature is remembered.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except KeysUnavailable as error:
            raise RequestError(
                "not_ready", f"Tokens cannot be verified now: their issuer's keys cannot be had ({error})."
            ) from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _refused(_why(error)) from error
        return _principal(claims, rules), self._times(claims)

    def _times(self, claims: dict[str, Any]) -> float:
        """When the token expires, by our clock."""
        now, leeway = self._now(), self._rules.leeway
        expires = _number(claims, "exp")
        assert expires is not None
        if now >= expires + leeway:
            raise _refused("it has expired")
        for name in ("nbf", "iat"):
            at = _number(claims, name)
            if at is not None and at > now + leeway:
                raise _refused(f"its `{name}` is in the future")
        return expires + leeway


def _number(claims: dict[str, Any], name: str) -> float | None:
    found = claims.get(name)
    if found is None and name != "exp":
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < 1e12:  # NaN is not either
        raise _refused(f"its `{name}` is no time")
    return float(found)


def _principal(claims: dict[str, Any], rules: TokenRules) -> Principal:
    tenant = claims.get(rules.tenant_claim, rules.tenant)
    if not is_tenant(tenant):
        raise _refused(f"its `{rules.tenant_claim}` names no tenant")
    user = claims.get(rules.user_claim)
    if not is_user(user):
        raise _refused(f"its `{rules.user_claim}` names no user")
    subject = claims.get("sub")
    return Principal(
        tenant=str(tenant),
        user=str(user),
        scopes=frozenset(_scopes(claims, rules)),
        actor=f"jwt:{subject if is_user(subject) else user}",
    )


def _scopes(claims: dict[str, Any], rules: TokenRules) -> set[str]:
    """Those that we know: an issuer has scopes for others too. Words with spaces between (RFC 9068), or a list."""
    if rules.scopes_claim not in claims:
        return set(rules.scopes)
    given = claims[rules.scopes_claim]
    words = given.split(" ") if isinstance(given, str) else given if isinstance(given, list) else []
    return {word for word in words if isinstance(word, str) and is_scope(word)}


def _why(error: Exception) -> str:
    """What is wrong, without anything that stands in the token."""
    match error:
        case jwt.MissingRequiredClaimError(claim="exp"):
            return "it has no `exp`, and would never expire"
        case jwt.InvalidAudienceError() | jwt.InvalidIssuerError() | jwt.MissingRequiredClaimError():
            return "it is not meant for this service: see auth.jwt_issuer and auth.jwt_audience"
        case jwt.InvalidAlgorithmError():
            return "its algorithm is not allowed"
        case jwt.InvalidSignatureError() | jwt.InvalidKeyError():
            return "its signature is not its issuer's"
    return "it is malformed"


def _refused(why: str) -> RequestError:
    return RequestError("unauthenticated", f"The token is refused: {why}.")
