"""One socket of `/ws`: any number of runs over one connection, begun, followed and stopped by frames.

Commands are done one after another; what is followed is told side by side. Nothing is queued for a client: each followed
run waits for the socket with the piece of its stream that it wants to send, so a slow client costs no more than that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from app.api import ws_frames as frames
from app.api.aside import Aside
from app.api.authentication import Access, check_scope
from app.api.guards import Gate
from app.api.limits import Limits
from app.api.problems import UNREACHABLE, problem
from app.api.streams import Seat
from app.api.ws_followed import Batches, Followed
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.idempotency import IdempotencyKey
from app.domain.principals import Principal
from app.runs.service import RunService, StartRun
from app.runs.stream import parse_cursor

log = logging.getLogger(__name__)

MAX_STRIKES = 3
"""Frames one after another that are no command, until the socket is closed."""
SEND_TIMEOUT = 60.0
"""Seconds that a client may take to receive one frame."""
CLOSE_TIMEOUT = 2.0
PATIENCE = 10.0
"""Seconds in which a client has to say who it is."""
MAX_FIRST = 9_000
"""Bytes of a frame of whom it is not known who they are: room for the longest token."""
PING = 10.0
"""Seconds without a frame after which the client is told that the connection lives."""

GOING_AWAY, POLICY, TOO_BIG, FAULT, RESTART, TRY_LATER = 1001, 1008, 1009, 1011, 1012, 1013
"""Why a socket is closed (RFC 6455 and its registry)."""

Refusal = RequestError | DatabaseUnavailable
_encode = msgspec.json.Encoder().encode


class _Lost(Exception):
    """The client is gone, or takes nothing any more."""


class Connection:
    """One accepted socket and what is followed over it."""

    def __init__(
        self,
        *,
        socket: WebSocket[Any, Any, Any],
        service: RunService,
        access: Access,
        credential: str | None,
        limits: Limits,
        seat: Seat,
        request_id: str,
        max_frame: int,
        aside: Aside,
        ping: float = PING,
        send_timeout: float = SEND_TIMEOUT,
        patience: float = PATIENCE,
    ) -> None:
        """`credential` came with the handshake; None: it comes by the first frame, within `patience` seconds, where one is needed."""
        self._socket = socket
        self._service = service
        self._access = access
        self._credential = credential
        self._limits = limits
        self._seat = seat
        self._principal: Principal | None = None
        self._leave: Callable[[], None] | None = None
        self._patience = patience
        self._request_id = request_id
        self._max_frame = max_frame
        self._aside = aside
        self._ping = ping
        self._send_timeout = send_timeout
        self._sending = asyncio.Lock()
        self._sent = time.monotonic()
        self._followed = Followed(tell=self._tell)
        self._over: asyncio.Future[tuple[int, str] | None] = asyncio.get_running_loop().create_future()

    async def serve(self, gate: Gate, max_age: float) -> None:
        """Serve until the client leaves, or has to: because it is told to come back elsewhere, or sends nonsense.

        After `max_age` seconds it is told to come back (0: at no age). Everything that was begun for it has ended; the runs go on.
        """
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(), self._keep_alive(), self._part(gate), self._grow_old(max_age), self._expect())
        ]
        why = None
        try:
            why = await self._over
        finally:
            tasks += self._followed.tasks()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self._leave is not None:
                self._leave()
        if why is not None:
            with suppress(Exception):  # it may be gone already
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._socket.close(*why)

    def _end(self, why: tuple[int, str] | None) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def _part(self, gate: Gate) -> None:
        await gate.shut()
        self._end((RESTART, "this process is closing, connect again"))

    async def _grow_old(self, max_age: float) -> None:
        if not max_age:
            return
        await asyncio.sleep(max_age)
        self._end((GOING_AWAY, "this connection is old, connect again"))

    async def _expect(self) -> None:
        """Whoever does not say in time who it is has to leave."""
        await self._seat.waited(self._patience)
        if self._principal is None:
            with suppress(_Lost, RequestError, DatabaseUnavailable):
                await self._caller()
        if self._principal is None:
            self._end((POLICY, "the first frame must be `auth`"))

    async def _caller(self) -> Principal:
        """Who speaks, asked for each command: a key may be revoked. Raises `RequestError` unauthenticated, forbidden."""
        principal = await self._access.principal(self._socket, self._credential)
        check_scope(principal, "runs")
        if self._principal is None:
            self._be(principal, self._credential)
        return principal

    async def _identify(self, token: str) -> None:
        """The client is the holder of that token from now on. A socket is one principal's: it may come with a fresh token, for the same one."""
        principal = await self._access.principal(self._socket, token)
        check_scope(principal, "runs")
        if self._principal is not None and _whose(principal) != _whose(self._principal):
            raise RequestError("forbidden", "This socket is another principal's: open one for this token.")
        self._be(principal, token)

    def _be(self, principal: Principal, credential: str | None) -> None:
        self._seat.take(principal.tenant)
        if self._leave is not None:
            self._leave()
        self._principal, self._credential = principal, credential
        self._leave = self._access.revocations.enter(credential, self._cut)

    def _cut(self) -> None:
        self._end((POLICY, "the key or token is not valid any more"))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._sent + self._ping - time.monotonic()))
            if time.monotonic() - self._sent >= self._ping:
                with suppress(_Lost):
                    await self._send(frames.PingFrame())

    async def _send(self, frame: frames.Frame) -> None:
        """Raises `_Lost` where nobody receives it; the connection is over then."""
        data = _encode(frame)
        try:
            async with self._sending, asyncio.timeout(self._send_timeout):
                await self._socket.send_data(data)
        except Exception as error:  # servers differ in what they raise where nobody is there any more
            self._end(None)
            raise _Lost from error
        self._sent = time.monotonic()

    async def _read(self) -> None:
        """Do what the client says, one command after another."""
        strikes = 0
        try:
            while (frame := await self._receive()) is not None:
                strikes = 0 if await self._serve(frame) else strikes + 1
                if strikes >= MAX_STRIKES:
                    self._end((POLICY, f"{MAX_STRIKES} frames that are no command"))
                    return
            self._end(None)
        except (_Lost, WebSocketDisconnect):
            self._end(None)
        except Exception as error:
            log.error("a socket failed", exc_info=error)
            self._end((FAULT, "the service failed"))

    async def _receive(self) -> bytes | None:
        """The next frame; None: there is none any more."""
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        if text is None:
            frame: bytes = message.get("bytes") or b""
        else:  # as far as it matters: what is too large is not copied whole
            frame = text[: self._max_frame + 1].encode("utf-8", "surrogatepass")
        if len(frame) > self._max_frame:
            await self._refuse(RequestError("body_too_large", f"A frame may have {self._max_frame} bytes."))
            self._end((TOO_BIG, "a frame is too large"))
            return None
        return frame

    async def _serve(self, frame: bytes) -> bool:
        """Do one command; whether it was one. A refusal is told, and ends nothing but what is still nobody's."""
        command = None
        try:
            command, key = await self._command(frame)
            await self._do(command, key)
        except (RequestError, DatabaseUnavailable) as error:
            ref = frames.ref_of(frame) if command is None else command.ref
            await self._refuse(error, ref, getattr(command, "run_id", None))
            if isinstance(error, DatabaseUnavailable):
                return True
            if error.code == "unauthenticated":
                self._end((POLICY, error.code))
            elif error.code == "queue_full" and self._principal is None:
                self._end((TRY_LATER, error.code))
            return command is not None
        return True

    async def _command(self, frame: bytes) -> tuple[frames.Command, IdempotencyKey | None]:
        """What the frame says. As long as nobody knows who speaks only `auth` is read, and nothing large is.

        Raises `RequestError` for what is no command, and what `_caller` does where it is not known.
        """
        if self._principal is None:
            try:
                await self._caller()
            except (RequestError, DatabaseUnavailable):
                auth = frames.read_auth(frame) if len(frame) <= MAX_FIRST else None
                if auth is None:
                    raise
                return auth, None
        return await self._aside.run(len(frame), partial(frames.read, frame))

    async def _do(self, command: frames.Command, key: IdempotencyKey | None) -> None:
        if isinstance(command, frames.Auth):
            await self._identify(command.token)
            await self._ack(command.ref)
            return
        caller = await self._caller()
        match command:
            case frames.Pong():
                await self._ack(command.ref)
            case frames.StartTurn():
                await self._start(caller, command, key)
            case frames.Subscribe():
                await self._subscribe(caller, command)
            case frames.Unsubscribe():
                await self._followed.forget(command.run_id)
                await self._ack(command.ref, command.run_id)
            case frames.Cancel():
                await self._service.cancel(caller, command.run_id, command.reason)
                await self._ack(command.ref, command.run_id)
            case frames.Ping():
                await self._send(frames.PongFrame(ref=command.ref))

    async def _start(self, caller: Principal, command: frames.StartTurn, key: IdempotencyKey | None) -> None:
        self._followed.check_room(None)
        message = command.message
        wanted = StartRun(
            input=command.input if isinstance(message, msgspec.UnsetType) else message,
            field="input" if isinstance(message, msgspec.UnsetType) else "message",
            agent=command.agent,
            session_id=command.session_id,
            user_id=command.user_id,
            context=command.context,
            timeout=command.timeout,
            tags=command.tags,
            on_busy=command.on_busy,
            key=key,
        )
        started, _ = await self._limits.started(
            caller,
            command.user_id,
            lambda: self._service.start(caller, wanted),
            lambda: self._service.replay(caller.acting_for(wanted.user_id), wanted.key, wanted.timeout),
        )
        await self._followed.forget(started.run_id)
        await self._ack(command.ref, started.run_id, started.session_id, started.replayed)
        await self._followed.follow(started.run_id, command.ref, self._service.follow(started))

    async def _subscribe(self, caller: Principal, command: frames.Subscribe) -> None:
        self._followed.check_room(command.run_id)
        cursor = parse_cursor(None if command.after is None else str(command.after))
        batches = await self._service.events(caller, command.run_id, cursor)
        await self._followed.forget(command.run_id)
        await self._ack(command.ref, command.run_id)
        await self._followed.follow(command.run_id, command.ref, batches)

    async def _ack(
        self, ref: str | None, run_id: str | None = None, session_id: str | None = None, replayed: bool = False
    ) -> None:
        """Only who named its command is told that it was done: the others see it by its events."""
        if ref is not None:
            await self._send(frames.Ack(ref=ref, run_id=run_id, session_id=session_id, replayed=replayed))

    async def _tell(self, run_id: str, ref: str | None, batches: Batches) -> None:
        """Every event of the run, as fast as the client takes them."""
        try:
            async for batch in batches:
                for item in batch:
                    data = msgspec.Raw(item.payload)
                    await self._send(frames.EventFrame(run_id=run_id, event=item.name, id=item.id, data=data, ref=ref))
        except _Lost:
            pass
        except (RequestError, DatabaseUnavailable) as error:
            with suppress(_Lost):
                await self._refuse(error, ref, run_id)
        except Exception as error:
            log.error("a run could not be followed", exc_info=error)
            self._end((FAULT, "the service failed"))

    async def _refuse(self, error: Refusal, ref: str | None = None, run_id: str | None = None) -> None:
        await self._send(refusal(self._request_id, error, ref, run_id))


def _whose(principal: Principal) -> tuple[str, str | None]:
    return principal.tenant, principal.user


def refusal(request_id: str, error: Refusal, ref: str | None = None, run_id: str | None = None) -> frames.ErrorFrame:
    """The frame that says so."""
    if isinstance(error, RequestError):
        told = problem(request_id, error.code, error.detail, errors=error.errors)
    else:
        log.warning("the database is away", extra={"reason": str(error)})
        told = problem(request_id, "not_ready", UNREACHABLE)
    return frames.ErrorFrame(problem=told, ref=ref, run_id=run_id)
