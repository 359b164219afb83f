"""Who answers in a chat: here a service that runs elsewhere; `chat_own` has one of our own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, Protocol
from urllib.parse import quote

import httpx2
import msgspec

from app.cli.banner import url_meant
from app.domain.errors import RequestError, SteadyhandError
from app.domain.messages import JsonObject
from app.domain.runs import TERMINAL, RunStatus
from app.runs.stream import Item

Choice = Literal["approve", "deny"]
LEFT = "stopped in the chat"
"""Why a run is cancelled whose answer nobody waits for."""
GIVE_UP = 60.0
"""Seconds in which a broken connection may come back."""
PROOF = 1.0
"""Seconds after which a connection has shown that the service is there, even if it had nothing to say."""
STOP_GRACE = 5.0
"""Seconds for a run to stop."""
SILENCE = 30.0
"""Seconds without a byte (the service sends one every 10) after which a connection is taken for dead."""


class ChatService(Protocol):
    """Answers messages. Failures are `SteadyhandError`s with one line to show."""

    lost: asyncio.Future[None]
    """Fails when the service can do nothing more for us."""

    async def check(self, agent: str | None) -> str:
        """Who will answer, in words. Raises for an agent that does not exist."""
        ...

    async def messages(self, session_id: str) -> int:
        """How many messages that session has."""
        ...

    def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        """The run that answers, from `run.created` to `run.finished`; it goes on after `run.waiting`, however long that takes."""
        ...

    async def decide(
        self, approval_id: str, decision: Choice, arguments: JsonObject | None, comment: str | None
    ) -> None:
        """The person's word on a call; `arguments` replace the model's."""
        ...

    async def leave(self) -> str:
        """Stops the run of the last `ask`, whose answer nobody waits for any more; what became of it, in words."""
        ...

    async def reset(self, session_id: str) -> None:
        """Begin the session anew."""
        ...


class RunningService:
    """A service that runs elsewhere, over HTTP. `http` is closed by whoever made it."""

    def __init__(self, *, http: httpx2.AsyncClient, url: str, give_up: float = GIVE_UP) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._http = http
        self._url = url_meant(url)
        self._give_up = give_up
        self._asked: str | None = None
        """The run of the last `ask`, once it is known."""

    async def check(self, agent: str | None) -> str:
        known = [one.name for one in await self._json("GET", "/agents", list[_Named])]
        if agent is not None and agent not in known:
            raise SteadyhandError(f"there is no agent {agent!r} at {self._url}; there are: {', '.join(known)}")
        return f"{agent or 'the default agent'} at {self._url}"

    async def messages(self, session_id: str) -> int:
        try:
            return len((await self._json("GET", f"/history/{quote(session_id, safe='')}", _History)).messages)
        except RequestError as error:
            if error.code == "not_found":
                return 0
            raise

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        """Begins the run by `/chat/stream` and reads its log: that has the tools' arguments and the texts' offsets."""
        self._asked = run_id = None
        asked = {"message": text, "session_id": session_id} | ({"agent": agent} if agent is not None else {})
        try:
            async with self._stream("POST", "/chat/stream", json=asked) as items:
                async for item in items:
                    if item.name == "start":
                        self._asked = run_id = str(msgspec.json.decode(item.payload)["run_id"])
                        break
        except httpx2.ConnectError as error:
            raise self._unreachable(error) from error
        except httpx2.TransportError as error:
            raise SteadyhandError(
                f"the connection broke before the service accepted the message ({_why(error)}); it may answer all the same"
            ) from error
        if run_id is None:
            raise SteadyhandError("the service ended the stream before the run began; send the message again")
        async with aclosing(self._log(run_id)) as log:
            async for item in log:
                yield item

    async def _log(self, run_id: str) -> AsyncGenerator[Item, None]:
        """The run's log to its end, over as many connections as it takes: each goes on where the last one was."""
        loop = asyncio.get_running_loop()
        last: str | None = None
        deadline, pause = loop.time() + self._give_up, 0.1
        while True:
            headers = {} if last is None else {"Last-Event-ID": last}
            why = "the stream ended early"
            proved: float | None = None
            try:
                async with self._stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as items:
                    proved = loop.time() + PROOF
                    async for item in items:
                        last = item.id or last
                        proved = 0.0
                        yield item
                        if item.name == "run.finished":
                            return
            except httpx2.TransportError as error:
                why = _why(error)
            except RequestError as error:
                if error.code == "invalid_cursor" and last is not None and "." in last:
                    last = last.partition(".")[0]
                elif error.code not in ("not_ready", "queue_full"):
                    raise
                why = error.detail
            if proved is not None and loop.time() >= proved:
                deadline, pause = loop.time() + self._give_up, 0.1
            if loop.time() > deadline:
                raise SteadyhandError(f"lost {self._url} ({why}); the answer belongs to run {run_id}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 2.0)

    async def decide(
        self, approval_id: str, decision: Choice, arguments: JsonObject | None, comment: str | None
    ) -> None:
        said: dict[str, Any] = {"decision": decision}
        said |= {} if arguments is None else {"arguments": arguments}
        said |= {} if comment is None else {"comment": comment}
        await self._json("POST", f"/v1/approvals/{quote(approval_id, safe='')}", None, json=said)

    async def leave(self) -> str:
        run_id = self._asked
        if run_id is None:
            return "not waiting any more; the service may have accepted the message"
        run = await self._json("POST", f"/v1/runs/{run_id}/cancel", _Ended, json={"reason": LEFT})
        if run.status not in TERMINAL:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE):
                    run = await self._ended(run_id)
        return left(run_id, run.status)

    async def _ended(self, run_id: str) -> _Ended:
        async with aclosing(self._log(run_id)) as log:
            async for item in log:
                if item.name == "run.finished":
                    return msgspec.json.decode(item.payload, type=_Ended)
        raise AssertionError("the log ends with the run")

    async def reset(self, session_id: str) -> None:
        await self._json("POST", "/reset", None, json={"session_id": session_id})

    @asynccontextmanager
    async def _stream(self, method: str, path: str, **more: Any) -> AsyncIterator[AsyncGenerator[Item, None]]:
        async with self._http.stream(method, self._url + path, **more) as response, aclosing(_items(response)) as items:
            yield items

    async def _json(self, method: str, path: str, kind: Any, **more: Any) -> Any:
        try:
            response = await self._http.request(method, self._url + path, **more)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        _checked(response.status_code, response.content)
        try:
            return None if kind is None else msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise SteadyhandError(f"{self._url} does not answer like a Steadyhand service") from error

    def _unreachable(self, error: httpx2.TransportError) -> SteadyhandError:
        return SteadyhandError(f"cannot reach {self._url}: {_why(error)}")


@asynccontextmanager
async def running_service(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[RunningService]:
    """The service at that URL; `headers` go with every request."""
    try:
        httpx2.URL(url)
        timeout = httpx2.Timeout(SILENCE, connect=10.0)
        async with httpx2.AsyncClient(timeout=timeout, headers=headers) as http:
            yield RunningService(http=http, url=url)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise SteadyhandError(f"--url {url}: {error}") from error


def left(run_id: str, status: RunStatus) -> str:
    """What became of a run that was to stop."""
    if status == "cancelled":
        return "stopped"
    return f"run {run_id} had ended: {status}" if status in TERMINAL else f"run {run_id} is being stopped"


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Named(msgspec.Struct):
    """What we read of an agent."""

    name: str


class _Ended(msgspec.Struct):
    """What we read of a run, or of its end."""

    status: RunStatus


class _History(msgspec.Struct):
    """What we read of a session."""

    messages: list[Any]


class _Told(msgspec.Struct):
    """What we read of a problem."""

    detail: str
    code: Any = "error"


def _checked(status: int, content: bytes) -> None:
    """Raises for an error response: `RequestError` where it is one of the service's problems."""
    if status < 400:
        return
    try:
        told = msgspec.json.decode(content, type=_Told)
    except (msgspec.DecodeError, UnicodeError):
        raise SteadyhandError(
            f"the service answered with HTTP {status} and no reason; is it a Steadyhand service?"
        ) from None
    raise RequestError(told.code, told.detail)


async def _items(response: httpx2.Response) -> AsyncGenerator[Item, None]:
    """The events of a stream. Raises what `_checked` raises."""
    if response.status_code >= 400:
        _checked(response.status_code, await response.aread())
    buffer = b""
    async for piece in response.aiter_bytes():
        *blocks, buffer = (buffer + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            fields = {}
            for line in block.split(b"\n"):
                name, _, value = line.partition(b":")
                fields[name] = value.removeprefix(b" ")
            if b"data" in fields:
                last = fields.get(b"id")
                yield Item(last.decode() if last else None, fields.get(b"event", b"").decode(), fields[b"data"])
