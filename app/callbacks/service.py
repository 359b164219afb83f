"""What the API may ask about callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.domain.callbacks import Callback, CallbackStore
from app.domain.errors import FieldError, RequestError
from app.domain.principals import Principal
from app.egress.addresses import Address
from app.egress.network import EgressRefused, HostUnknown, Resolver, resolved
from app.egress.urls import InvalidUrl, checked_url, port_of

LOOKUP = 5.0
"""Seconds for a look at DNS while a caller waits."""


class CallbackService:
    """The log of a run's callback, its replay, and which URLs may be called.

    `wake` is told when something became due; `lookup`: seconds for a look at DNS.
    """

    def __init__(
        self,
        *,
        store: CallbackStore,
        resolver: Resolver,
        allow: Callable[[Address], bool],
        wake: Callable[[], None],
        lookup: float = LOOKUP,
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._allow = allow
        self._wake = wake
        self._lookup = lookup

    async def check_url(self, url: str) -> None:
        """Whether a run may name that URL. Raises `RequestError` validation_error.

        A name that cannot be looked up just now passes: every connection is checked again.
        """
        try:
            target = checked_url(url)
            async with asyncio.timeout(self._lookup):
                await resolved(self._resolver, self._allow, target.raw_host.decode(), port_of(target))
        except TimeoutError:
            return
        except HostUnknown as error:
            if not error.passing:
                raise _refused(str(error)) from error
        except (InvalidUrl, EgressRefused) as error:
            raise _refused(str(error)) from error

    async def callback(self, principal: Principal, run_id: str) -> Callback:
        """The run's callback. Raises `RequestError` not_found where there is no such run or it has none."""
        found = await self._store.callback(principal, run_id)
        if found is None:
            raise RequestError("not_found", "There is no such run, or it was started without a callback_url.")
        return found

    async def replay(self, principal: Principal, run_id: str) -> Callback:
        """It is sent again, now, however it stood. Raises `RequestError` not_found, and state_conflict before the run's end."""
        if await self._store.replay(principal, run_id):
            self._wake()
            return await self.callback(principal, run_id)
        await self.callback(principal, run_id)
        raise RequestError("state_conflict", "The run has not ended yet; its callback is sent when it does.")


def _refused(why: str) -> RequestError:
    return RequestError("validation_error", f"`callback_url`: {why}.", [FieldError("callback_url", why)])
