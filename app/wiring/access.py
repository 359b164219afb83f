"""Who may use the service, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from app.access.authentication import Authentication, Keyless
from app.access.bootstrap import keep_first_key
from app.access.known import KnownKeys
from app.api.authentication import Access
from app.api.here import OnlyHere
from app.settings.options import AuthOptions
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.storage.postgres.pool import Database


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """Who lets requests in. `keep_first_key`: to be called once the database is migrated; `loops` go on by themselves."""

    authentication: Authentication
    access: Access
    keep_first_key: Callable[[], Awaitable[None]]
    loops: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


@asynccontextmanager
async def entrance_of(
    auth: AuthOptions, database: Database, *, keyless: Keyless, origins: Collection[str] = ()
) -> AsyncIterator[Entrance]:
    """What lets requests in, closed at the end. `keyless` as in `Authentication`, `origins` as in `OnlyHere`."""
    store = PostgresApiKeyStore(database=database)
    async with AsyncExitStack() as stack:
        keys = KnownKeys(store=store)
        stack.push_async_callback(keys.aclose)
        tokens = None
        if auth.jwt_issuer is not None and auth.jwt_audience is not None and auth.jwks_url is not None:
            from app.access.jwks import KeySet  # with cryptography, which a service without tokens does not need
            from app.access.tokens import TokenRules, Tokens

            http = await stack.enter_async_context(httpx2.AsyncClient(timeout=5.0))
            key_set = KeySet(http=http, url=auth.jwks_url, algorithms=auth.jwt_algorithms)
            stack.push_async_callback(key_set.aclose)
            rules = TokenRules(
                issuer=auth.jwt_issuer,
                audience=auth.jwt_audience,
                algorithms=auth.jwt_algorithms,
                leeway=auth.jwt_leeway,
                tenant_claim=auth.jwt_tenant_claim,
                user_claim=auth.jwt_user_claim,
                scopes_claim=auth.jwt_scopes_claim,
                tenant=auth.jwt_tenant,
                scopes=auth.jwt_scopes,
            )
            tokens = Tokens(keys=key_set, rules=rules)
        authentication = Authentication(keys=keys, tokens=tokens, keyless=keyless)
        access = Access(
            authentication=authentication,
            open_metrics=auth.metrics == "open",
            only_here=OnlyHere(origins=origins) if keyless == "here" else None,
        )

        async def first_key() -> None:
            if auth.bootstrap_key_file is not None:
                await keep_first_key(store, Path(auth.bootstrap_key_file))

        yield Entrance(
            authentication=authentication,
            access=access,
            keep_first_key=first_key,
            loops=(keys.serve, access.revocations.serve),
        )
