"""What is refused before a request is looked at any further."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.domain.errors import RequestError


class Gate:
    """Whether this process serves. `closed` says why it does not; None: it does."""

    def __init__(self, closed: str | None) -> None:
        self._closed = closed
        self._shut = asyncio.Event()
        self._note()

    @property
    def closed(self) -> str | None:
        """Why this process does not serve."""
        return self._closed

    @closed.setter
    def closed(self, why: str | None) -> None:
        self._closed = why
        self._note()

    def _note(self) -> None:
        if self._closed is None:
            self._shut.clear()
        else:
            self._shut.set()

    async def shut(self) -> None:
        """Returns once the gate is closed."""
        await self._shut.wait()


async def when_serving(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """While the gate is closed only the health routes answer."""
    gate: Gate = connection.app.state.gate
    if gate.closed is not None and not handler.opt.get("always"):
        raise RequestError("not_ready", gate.closed)


async def no_nul_in_path(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Nothing has a name with NUL in it, and the database cannot even be asked."""
    if "\x00" in connection.scope["path"]:
        raise RequestError("not_found", "There is nothing at this path: it holds a NUL character.")
