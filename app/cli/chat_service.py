"""Who answers in a chat: a service of our own in this process, or one that runs elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote

import httpx2
import msgspec

from app.cli.database import reach_database
from app.domain.errors import RequestError, SteadyhandError
from app.domain.principals import ANONYMOUS
from app.runs.service import RunService, Started, StartRun
from app.runs.stream import Item
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.owner import DatabaseOwned, owned_database
from app.wiring import Services, open_services
from app.workspace.load import Workspace

GIVE_UP = 60.0
"""Seconds in which a broken connection may come back."""
SILENCE = 30.0
"""Seconds without a byte (the service sends one every 10) after which a connection is taken for dead."""
STOP_GRACE = 5.0


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
        """The run that answers, from `run.created` to `run.finished`."""
        ...

    async def leave(self, run_id: str | None) -> str:
        """What becomes of a run whose answer nobody waits for any more, in words; None: it did not say that it began."""
        ...

    async def reset(self, session_id: str) -> None:
        """Begin the session anew."""
        ...


class OwnService:
    """A service of this process; see `own_service`."""

    def __init__(self, *, service: RunService, name: str, lost: asyncio.Future[None]) -> None:
        self.lost = lost
        self._service = service
        self._name = name
        self._starting: asyncio.Task[Started] | None = None

    async def check(self, agent: str | None) -> str:
        return f"{self._service.agents.get(agent).name}, in this process ({self._name})"

    async def messages(self, session_id: str) -> int:
        try:
            return len(await self._service.messages(ANONYMOUS, session_id))
        except RequestError as error:
            if error.code == "not_found":
                return 0
            raise

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        wanted = StartRun(input=text, agent=agent, session_id=session_id)
        self._starting = asyncio.create_task(self._service.start(ANONYMOUS, wanted))
        started = await asyncio.shield(self._starting)
        async with aclosing(self._service.follow(started)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def leave(self, run_id: str | None) -> str:
        """Stops the run, also one that is just being accepted."""
        if self._starting is None:
            return "stopped"
        started = await self._starting
        await self._service.interrupt(started.run_id)
        done, _ = await asyncio.wait([asyncio.shield(started.feed.ended)], timeout=STOP_GRACE)
        return "stopped" if done else f"run {started.run_id} is being stopped"

    async def reset(self, session_id: str) -> None:
        await self._service.reset(ANONYMOUS, session_id)


@asynccontextmanager
async def own_service(workspace: Workspace) -> AsyncIterator[OwnService]:
    """A service of our own, which executes runs for the time of the block. Raises where another one serves the database."""
    settings = workspace.settings
    where = f"steadyhand chat --url http://{settings.server.host}:{settings.server.port}"
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(reach_database(settings))

        def taken(error: DatabaseOwned) -> None:
            lost.set_exception(SteadyhandError(f"{error}; talk to it instead: {where}"))

        try:
            owned = owned_database(database.direct, lost=taken, wait=1.0, command="chat")
            await stack.enter_async_context(owned)
        except DatabaseOwned as error:
            raise SteadyhandError(f"{error}; talk to it instead: {where}") from error
        if database.embedded:
            await migrate(database.direct, read_migrations())
        services = await stack.enter_async_context(open_services(workspace, database.dsn, environ=os.environ))
        if (await services.schema()).pending:
            raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
        await asyncio.gather(*(provider.warm() for provider in services.providers.values()))
        await services.activate()
        working = asyncio.create_task(services.work())
        try:
            yield OwnService(service=services.service, name=database.name, lost=lost)
        finally:
            await _end(services, working)
            lost.cancel()


async def _end(services: Services, working: asyncio.Task[None]) -> None:
    working.cancel()
    await asyncio.wait([working])
    await services.drain(STOP_GRACE)
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error


class RunningService:
    """A service that runs elsewhere, over HTTP. `http` is closed by whoever made it."""

    def __init__(self, *, http: httpx2.AsyncClient, url: str, give_up: float = GIVE_UP) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._http = http
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._give_up = give_up

    async def check(self, agent: str | None) -> str:
        path = "/agents" if agent is None else f"/agents/{quote(agent, safe='')}"
        found = await self._json("GET", path)
        return f"{'the default agent' if agent is None else found['name']} at {self._url}"

    async def messages(self, session_id: str) -> int:
        try:
            return len((await self._json("GET", f"/history/{quote(session_id, safe='')}"))["messages"])
        except RequestError as error:
            if error.code == "not_found":
                return 0
            raise

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        """Begins the run by `/chat/stream` and reads its log: that has the tools' arguments and the texts' offsets."""
        run_id = None
        asked = {"message": text, "session_id": session_id} | ({"agent": agent} if agent is not None else {})
        try:
            async with self._http.stream("POST", f"{self._url}/chat/stream", json=asked) as response:
                async with aclosing(_items(response)) as items:
                    async for item in items:
                        if item.name == "start":
                            run_id = str(msgspec.json.decode(item.payload)["run_id"])
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
        """The run's log to its end, over as many connections as it takes."""
        loop = asyncio.get_running_loop()
        last: str | None = None
        deadline, pause = loop.time() + self._give_up, 0.1
        while True:
            headers = {} if last is None else {"Last-Event-ID": last}
            why = "the stream ended early"
            try:
                async with self._http.stream(
                    "GET", f"{self._url}/v1/runs/{run_id}/events", headers=headers
                ) as response:
                    async with aclosing(_items(response)) as items:
                        async for item in items:
                            last = item.id or last
                            deadline, pause = loop.time() + self._give_up, 0.1
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
            if loop.time() > deadline:
                raise SteadyhandError(f"lost {self._url} ({why}); the answer belongs to run {run_id}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 2.0)

    async def leave(self, run_id: str | None) -> str:
        """Changes nothing: the run belongs to the service."""
        if run_id is None:
            return "not waiting any more; the service may have accepted the message"
        return f"not waiting any more; the run goes on at the service: {run_id}"

    async def reset(self, session_id: str) -> None:
        await self._json("POST", "/reset", json={"session_id": session_id})

    async def _json(self, method: str, path: str, **more: Any) -> Any:
        try:
            response = await self._http.request(method, self._url + path, **more)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        _checked(response.status_code, response.content)
        try:
            return msgspec.json.decode(response.content) if response.content else None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise SteadyhandError(f"{self._url} does not answer like a Steadyhand service") from error

    def _unreachable(self, error: httpx2.TransportError) -> SteadyhandError:
        return SteadyhandError(f"cannot reach {self._url}: {_why(error)}")


@asynccontextmanager
async def running_service(options: argparse.Namespace) -> AsyncIterator[RunningService]:
    """The service at `--url`."""
    try:
        httpx2.URL(options.url)
        timeout = httpx2.Timeout(SILENCE, connect=10.0)
        async with httpx2.AsyncClient(timeout=timeout) as http:
            yield RunningService(http=http, url=options.url)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise SteadyhandError(f"--url {options.url}: {error}") from error


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


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
