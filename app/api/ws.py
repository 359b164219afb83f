"""`/ws`: who may open a socket, and how many there are."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import WebSocket, websocket
from litestar.di import NamedDependency

from app.api.aside import Aside
from app.api.authentication import FIRST_FRAME, SCOPE, Access, credential_of
from app.api.cors import Origins
from app.api.guards import Gate
from app.api.limits import Limits
from app.api.problems import request_id
from app.api.streams import OpenStreams, Seat
from app.api.ws_connection import PING, POLICY, TRY_LATER, Connection, refusal
from app.domain.errors import DatabaseUnavailable, RequestError
from app.runs.service import RunService


class Sockets:
    """Serves sockets, each counted as one of the open streams once it is known whose it is. Times in seconds."""

    def __init__(
        self,
        *,
        service: RunService,
        streams: OpenStreams,
        gate: Gate,
        access: Access,
        limits: Limits,
        max_frame: int,
        aside: Aside,
        max_age: float,
        origins: Origins,
        ping: float = PING,
    ) -> None:
        self._service = service
        self._streams = streams
        self._gate = gate
        self._access = access
        self._limits = limits
        self._max_frame = max_frame
        self._aside = aside
        self._max_age = max_age
        self._origins = origins
        self._ping = ping

    async def serve(self, socket: WebSocket[Any, Any, Any]) -> None:
        """Serve one until it is over. A page of another origin that is not allowed is refused: a browser would let it speak for its user."""
        if not self._welcome(socket):
            await socket.close(POLICY, "pages of another origin may not open a socket here")
            return
        await socket.accept()
        try:
            if self._gate.closed is not None:
                raise RequestError("not_ready", self._gate.closed)
            credential = credential_of(socket)
            seat = Seat(self._streams, await self._tenant_of(socket, credential))
        except RequestError as error:
            await socket.send_data(msgspec.json.encode(refusal(request_id(socket), error)))
            await socket.close(POLICY if error.code == "unauthenticated" else TRY_LATER, error.code)
            return
        try:
            connection = Connection(
                socket=socket,
                service=self._service,
                access=self._access,
                credential=credential,
                limits=self._limits,
                seat=seat,
                request_id=request_id(socket),
                max_frame=self._max_frame,
                aside=self._aside,
                ping=self._ping,
            )
            # Not all at once: sockets that were opened together come back one after another.
            await connection.serve(self._gate, self._max_age * random.uniform(0.9, 1.0))
        finally:
            seat.leave()

    async def _tenant_of(self, socket: WebSocket[Any, Any, Any], credential: str | None) -> str | None:
        """Whose the socket is as far as its handshake says; None: a refusal is told once it says something."""
        try:
            return (await self._access.principal(socket, credential)).tenant
        except (RequestError, DatabaseUnavailable):
            return None

    def _welcome(self, socket: WebSocket[Any, Any, Any]) -> bool:
        """Whether no browser, a page of this service or one of an allowed origin opens the socket. No page can set the headers that say so."""
        origin = socket.headers.get("origin")
        if origin is None or self._origins.allows(origin.encode("latin-1", "replace")):
            return True
        host = socket.headers.get("host", "")
        try:
            return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False


@websocket("/ws", opt={"always": True, SCOPE: FIRST_FRAME})
async def runs_socket(socket: WebSocket[Any, Any, Any], sockets: NamedDependency[Sockets]) -> None:
    """Runs over one connection: `auth`, `run`, `subscribe`, `cancel` in; events, errors and acknowledgements out."""
    await sockets.serve(socket)


HANDLERS = [runs_socket]
