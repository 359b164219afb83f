"""Every request's principal, and whether it may do what its route is for. A route that does not say what it needs is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, cast

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler

from app.api.here import OnlyHere
from app.api.revocations import Revocations
from app.domain.access import Authenticates
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.principals import ANONYMOUS, SCOPES, Principal

SCOPE: Final = "scope"
"""The key of a handler's `opt` that says what its callers need: a scope, or one of the following."""
ANY_KEY: Final = "any"
"""A key or a token, whatever it may do."""
PUBLIC: Final = "public"
"""Nothing: it tells nothing that is not the same for everybody."""
FIRST_FRAME: Final = "first_frame"
"""A socket, which authenticates by its first frame where no header does."""
ANYWHERE: Final = "anywhere"
"""The key of the `opt` of a handler that answers whoever asks, by whatever name: those who look whether the service is well."""
METRICS: Final = "metrics"
"""As the setting auth.metrics says."""
DECLARED: Final = SCOPES | {ANY_KEY, PUBLIC, FIRST_FRAME, METRICS}

_PRINCIPAL = "steadyhand.principal"
_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"


class Access:
    """What the guard asks: who somebody is, and whether `/metrics` needs a key; and who ends what is open for those who may not any more."""

    def __init__(
        self, *, authentication: Authenticates, open_metrics: bool = True, only_here: OnlyHere | None = None
    ) -> None:
        """`only_here`: what is asked of requests that need no key; None: nothing."""
        self.authentication = authentication
        self.open_metrics = open_metrics
        self._only_here = only_here
        self.revocations = Revocations(authentication=authentication)

    async def principal(self, connection: ASGIConnection[Any, Any, Any, Any], credential: str | None) -> Principal:
        """Who that connection's requests are by, which has sent that credential. Raises `RequestError` unauthenticated, forbidden."""
        principal = await self.authentication.principal(credential)
        if self._only_here is not None and principal is ANONYMOUS:
            self._only_here.check(connection)
        return principal

    async def check_here(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """What is open to everybody is for this machine only as long as nobody needs a key. Raises `RequestError` forbidden."""
        if self._only_here is None:
            return
        try:
            await self.authentication.principal(None)
        except (RequestError, DatabaseUnavailable):  # a key is needed, or nobody knows
            return
        self._only_here.check(connection)


async def allowed(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The request's principal is known, and has the scope of its route. Raises `RequestError`: unauthenticated, forbidden."""
    needed = handler.opt.get(SCOPE)
    if connection.scope.get("method") == "OPTIONS":  # which says what methods there are
        return
    access: Access = connection.app.state.access
    if needed == PUBLIC or (needed == METRICS and access.open_metrics):
        if not handler.opt.get(ANYWHERE):
            await access.check_here(connection)
        return
    if needed == METRICS:
        needed = ANY_KEY
    if needed == FIRST_FRAME:
        return
    principal = await access.principal(connection, credential_of(connection))
    check_scope(principal, needed)
    cast("dict[str, Any]", connection.scope)[_PRINCIPAL] = principal


async def still_allowed(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Asked after a wait. Raises `RequestError` unauthenticated where the request's credential has been revoked or has run out meanwhile;
    what only the database could tell is let be while it is away.
    """
    access: Access = connection.app.state.access
    with suppress(DatabaseUnavailable):
        await access.principal(connection, credential_of(connection))


def check_scope(principal: Principal, needed: str | None) -> None:
    """Raises `RequestError` forbidden where the principal has not that scope; None is a scope that nobody has."""
    if needed == ANY_KEY or (needed is not None and principal.may(needed)):
        return
    raise RequestError("forbidden", f"This call needs a key with the scope `{needed}`.")


def principal_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Who the request is by. Only where a route needs a scope is that known."""
    principal: Principal = cast("dict[str, Any]", connection.scope)[_PRINCIPAL]
    return principal


def principal_of_requests() -> Provide:
    """The dependency that is each request's principal."""

    def principal(request: ASGIConnection[Any, Any, Any, Any]) -> Principal:
        return principal_of(request)

    return Provide(principal, sync_to_thread=False)


def credential_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """The key or token of the request's headers; None where it has none, empty where it has two that differ: nobody's.

    An `Authorization` of another scheme is for somebody else, such as a proxy before us.
    """
    given = set()
    for name, value in connection.scope["headers"]:
        if name == _AUTHORIZATION:
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                given.add(rest.strip())
        elif name == _API_KEY:
            given.add(value.strip())
    if not given:
        return None
    return given.pop().decode("latin-1") if len(given) == 1 else ""


def scopes_of(app: Litestar) -> dict[str, str | None]:
    """What each operation of the API's description needs, by its id."""
    return {str(handler.handler_name): handler.opt.get(SCOPE) for handler in handlers_of(app)}


def handlers_of(app: Litestar) -> Iterator[Any]:
    """Every handler of every route, but those that only say what methods there are."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:  # type: ignore[union-attr]
            if getattr(handler, "http_methods", None) != {"OPTIONS"}:
                yield handler
