"""What one request asks for without making a run: done once for each `Idempotency-Key`."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.di import Provide

from app.api.authentication import principal_of
from app.api.idempotency import Action, Idempotent, derived_id, key_of
from app.domain.principals import Principal


class Once:
    """One request's action, under its key if it has one."""

    def __init__(self, *, request: Request[Any, Any, Any], idempotent: Idempotent, principal: Principal) -> None:
        self._request = request
        self._idempotent = idempotent
        self._principal = principal

    async def answer(self, action: Action, *, status: int = 200) -> Response[Any]:
        """The action's answer, or that of the earlier request with the key. Raises what `Idempotent.answer` does."""
        key = await key_of(self._request)
        return await self._idempotent.answer(self._principal, key, action, status=status)

    async def derived_id(self, prefix: str) -> str | None:
        """The id of what the request makes, the same for each repetition; None where it has no key."""
        key = await key_of(self._request)
        return None if key is None else derived_id(prefix, self._principal, key)


def once_for_requests(*, idempotent: Idempotent) -> Provide:
    """The dependency that is each request's action."""

    def once(request: Request[Any, Any, Any]) -> Once:
        return Once(request=request, idempotent=idempotent, principal=principal_of(request))

    return Provide(once, sync_to_thread=False)
