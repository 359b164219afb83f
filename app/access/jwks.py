"""The public keys of whoever issues tokens (RFC 7517), fetched from its URL and kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import jwt
import msgspec

from app.domain.errors import SteadyhandError

log = logging.getLogger(__name__)

REFRESH, LIFETIME = 240.0, 300.0
"""Seconds after which the keys are fetched again: beside the tokens that come, and before the next token is judged. So a key that its
issuer withdrew is trusted so long at most, if the issuer can be reached."""
EXCUSED = 90.0
"""Seconds for which a fetch that failed excuses keys that are older: nobody waits for another one."""
RETRY = 10.0
"""Seconds between fetches, whatever strangers put into their tokens."""
TIMEOUT = 5.0
MOST_BYTES = 262_144
MOST_KEYS = 100
LEAST_RSA_BITS = 2048

FITTING: Mapping[str, tuple[str, str | None]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The kind of key that each algorithm is for (RFC 7518 section 3.1, RFC 8037). All are asymmetric: what verifies cannot sign."""


class KeysUnavailable(SteadyhandError):
    """The issuer's keys are not known, and it cannot be reached."""


class KeySet:
    """The issuer's keys. Lives in one event loop.

    Fetched when the first token comes, every `REFRESH` seconds while tokens come, and where a token names an unknown key; never
    more often than every `RETRY` seconds, and once at a time. While the issuer cannot be reached the keys that are known go on.
    """

    def __init__(
        self,
        *,
        http: httpx2.AsyncClient,
        url: str,
        algorithms: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`http` is closed by whoever made it."""
        self._http = http
        self._url = url
        self._algorithms = algorithms
        self._clock = clock
        self._found: dict[tuple[str | None, str], jwt.PyJWK] | None = None
        self._named: frozenset[str | None] = frozenset()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failed: str | None = None
        self._failed_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._content = b""
        self.generation = 0
        """Grows whenever the keys are others than before."""

    def failing(self) -> str | None:
        """Why the last fetch brought nothing; None: it did, or there was none. Where it is `RETRY` ago another one begins."""
        if self._failed is not None and self._may_fetch():
            self._begin()
        return self._failed

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that name for that algorithm; for no name, the only one for it. None: the issuer has none.

        Raises `KeysUnavailable` where that cannot be known.
        """
        now = self._clock()
        age = now - self._fetched_at
        if self._found is None or (age > LIFETIME and now - self._failed_at > EXCUSED):
            await self._fetch()
        elif age > REFRESH and self._may_fetch():
            self._begin()
        if self._found is not None and (kid in self._named if kid is not None else self._only(algorithm) is not None):
            return self._pick(kid, algorithm)
        if self._found is not None and self._may_fetch():
            await self._fetch()
        if self._found is None or (self._failed is not None and kid not in self._named):
            raise KeysUnavailable(self._failed or "they were not fetched")
        return self._pick(kid, algorithm)

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        assert self._found is not None
        return self._found.get((kid, algorithm)) if kid is not None else self._only(algorithm)

    def _only(self, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for (_, known), key in (self._found or {}).items() if known == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _may_fetch(self) -> bool:
        return self._clock() - self._tried_at >= RETRY or (self._fetching is not None and not self._fetching.done())

    def _begin(self) -> asyncio.Task[None]:
        """The fetch that goes on, or a new one."""
        if self._fetching is None or self._fetching.done():
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._get())
        return self._fetching

    async def _fetch(self) -> None:
        if self._may_fetch():
            await asyncio.shield(self._begin())

    async def _get(self) -> None:
        """Whatever the issuer answers, and however it fails: that is noted, and never raised."""
        try:
            async with asyncio.timeout(TIMEOUT):
                content = await self._download()
                found = _keys(content, self._algorithms)
        except (httpx2.HTTPError, TimeoutError, OSError, KeysUnavailable) as error:
            self._failed, self._failed_at = str(error) or type(error).__name__, self._clock()
            log.warning("the keys of the token issuer could not be fetched", extra={"reason": self._failed})
            return
        self._failed, self._fetched_at = None, self._clock()
        if content != self._content:
            self.generation += 1
        self._content = content
        self._found, self._named = found, frozenset(kid for kid, _ in found)

    async def _download(self) -> bytes:
        content = bytearray()
        headers = {"Accept": "application/jwk-set+json, application/json"}
        async with self._http.stream("GET", self._url, headers=headers, follow_redirects=False) as response:
            if response.status_code != 200:
                raise KeysUnavailable(f"HTTP {response.status_code}")
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise KeysUnavailable(f"more than {MOST_BYTES} bytes")
        return bytes(content)

    async def aclose(self) -> None:
        """Nothing is being fetched any more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])


def _keys(content: bytes, algorithms: Sequence[str]) -> dict[tuple[str | None, str], jwt.PyJWK]:
    """Every key that may verify, once for each algorithm that it fits. Others are left out: one bad key must not lock everybody out."""
    try:
        keys = msgspec.json.decode(content)["keys"]
        given = [key for key in keys if isinstance(key, dict)][:MOST_KEYS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise KeysUnavailable("the answer is no JSON Web Key Set") from error
    found: dict[tuple[str | None, str], jwt.PyJWK] = {}
    for key in given:
        kid = key.get("kid")
        if key.get("use", "sig") != "sig" or not (kid is None or isinstance(kid, str)):
            continue
        for algorithm in algorithms:
            if key.get("alg", algorithm) == algorithm and (made := _made(key, algorithm)) is not None:
                found.setdefault((kid, algorithm), made)
    if not found:
        raise KeysUnavailable("the answer has no key that fits auth.jwt_algorithms")
    return found


def _made(key: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    kind, curve = FITTING[algorithm]
    if key.get("kty") != kind or (curve is not None and key.get("crv") != curve) or "d" in key:
        return None
    try:
        made = jwt.PyJWK(key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    size = getattr(made.key, "key_size", LEAST_RSA_BITS)
    return None if kind == "RSA" and size < LEAST_RSA_BITS else made
