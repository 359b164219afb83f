"""What stays open for long, streams and sockets, does not outlive its credential by more than a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from app.domain.access import Authenticates

log = logging.getLogger(__name__)

EVERY = 0.2
"""Seconds between looks at the credentials for which something is open."""

Cut = Callable[[], None]
"""Ends what is open. Called in the event loop; quick."""


class Revocations:
    """Knows for which credentials something is open (None: for nobody's, while nobody needs one). Lives in one event loop."""

    def __init__(self, *, authentication: Authenticates, every: float = EVERY) -> None:
        self._authentication = authentication
        self._every = every
        self._open: dict[str | None, set[Cut]] = {}

    def enter(self, credential: str | None, cut: Cut) -> Cut:
        """From now on `cut` is called once that credential is refused. What is returned is to be called when it is over."""
        self._open.setdefault(credential, set()).add(cut)

        def leave() -> None:
            cuts = self._open.get(credential, set())
            cuts.discard(cut)
            if not cuts:
                self._open.pop(credential, None)

        return leave

    async def serve(self) -> None:
        """Look again and again, until cancelled. What only the database could tell stays open while it is away: nothing new is read
        from it. While it is silent a look takes as long as it may, so that expired tokens end some seconds late.
        """
        while True:
            await asyncio.sleep(self._every)
            try:
                refused = await self._authentication.refused(list(self._open))
            except Exception:
                log.exception("the open credentials could not be looked at; the next look follows")
                continue
            for credential in refused:
                self._cut(credential)

    def _cut(self, credential: str | None) -> None:
        for cut in tuple(self._open.get(credential, ())):
            cut()
