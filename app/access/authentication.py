"""Who a request is by: the holder of a key or of a token, or, where neither exists, whoever is on this machine."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from app.access.format import LONGEST
from app.access.known import KnownKeys
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.principals import ANONYMOUS, Principal

if TYPE_CHECKING:
    from app.access.tokens import Tokens

log = logging.getLogger(__name__)

NEEDED = "This service needs a key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`. `steadyhand keys create` makes one."

Keyless = Literal["never", "here", "until_keys", "always"]
"""Whether requests need no key. `here`: as `until_keys`, for requests that ask for this machine by a name of its own (`app.api.here`);
`always` is for a service that only this process can ask."""
NO_KEY_YET = "an API key, and there is none yet"


class Authentication:
    """Turns a credential into a principal. Lives in one event loop.

    `keyless` `here` and `until_keys`: while there never was a key, and no issuer of tokens is set, everybody is the tenant `default`. A key
    that was revoked or has expired counts as one that was: a service that was closed once does not open by itself.
    """

    def __init__(self, *, keys: KnownKeys, tokens: Tokens | None, keyless: Keyless) -> None:
        self._keys = keys
        self._tokens = tokens
        self._always = keyless == "always"
        self._open = keyless in ("here", "until_keys") and tokens is None

    async def principal(self, credential: str | None) -> Principal:
        """As `Authenticates` says."""
        if self._always or (self._open and await self._nobody_has_a_key()):
            return ANONYMOUS
        if not credential:
            raise RequestError("unauthenticated", NEEDED)
        if len(credential) > LONGEST:
            raise RequestError("unauthenticated", f"The credential has more than {LONGEST} characters.")
        if self._tokens is not None and _is_token(credential):
            return await self._tokens.principal(credential)
        found = await self._keys.find(credential)
        if found is None:
            raise RequestError(
                "unauthenticated",
                "The key is refused: it is unknown, revoked or expired. `steadyhand keys list` tells.",
            )
        return found

    async def refused(self, credentials: Collection[str | None]) -> list[str | None]:
        """As `Authenticates` says. Tokens first, which the database has nothing to do with."""
        tokens = [] if self._tokens is None else [one for one in credentials if one and _is_token(one)]
        seen = frozenset(tokens)
        refused: list[str | None] = [token for token in tokens if await self._is_refused(token)]
        others = [one for one in credentials if one not in seen]
        with suppress(DatabaseUnavailable):
            if not self._always:
                await self._keys.learn(key for key in others if key and len(key) <= LONGEST)
            refused += [one for one in others if await self._is_refused(one)]
        return refused

    async def _is_refused(self, credential: str | None) -> bool:
        try:
            await self.principal(credential)
        except RequestError as error:
            return error.code == "unauthenticated"
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("a credential could not be looked at")  # which must not keep the others open
        return False

    async def required(self) -> str | None:
        """What clients must send, in words; None: nothing. Raises `DatabaseUnavailable`."""
        issuer = self._tokens is not None
        if self._always:
            return None
        if not (await self._keys.state()).changes and not issuer:
            return None if self._open else NO_KEY_YET
        return "an API key or a token" if issuer else "an API key"

    def failing(self) -> str | None:
        """Why tokens cannot be verified with fresh keys; None: nothing is known to be wrong. Who asks again learns when that is over."""
        return None if self._tokens is None else self._tokens.failing()

    async def _nobody_has_a_key(self) -> bool:
        try:
            return not (await self._keys.state()).changes
        except DatabaseUnavailable:
            if self._keys.keyed is not False:
                raise
            return True


def _is_token(credential: str) -> bool:
    return credential.count(".") == 2
