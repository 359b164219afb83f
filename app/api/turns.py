"""A run on behalf of one request: started under its key, answered whole or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.di import Provide
from litestar.response import Stream

from app.api import sse
from app.api.authentication import credential_of, principal_of, still_allowed
from app.api.idempotency import REPLAYED, key_of
from app.api.limits import Limits, limit_headers
from app.api.problems import RunFailed, request_id
from app.api.schemas import Run, Waiting, run_status_error
from app.api.streams import Content, OpenStreams
from app.callbacks.service import CallbackService
from app.domain.errors import RequestError
from app.domain.events import RunFinished, RunWaiting
from app.domain.idempotency import IdempotencyKey
from app.domain.limits import Standing
from app.domain.principals import Principal
from app.runs.service import RunService, Started, StartRun
from app.runs.steps import Step

Build = Callable[[Started, RunFinished, list[Step] | None], Any]
"""Makes the body of an answer from a run that has one, and its steps where they were asked for."""


class Turns:
    """What one request may do with runs: its caller, its `Idempotency-Key` and its place among the open streams."""

    def __init__(
        self,
        *,
        request: Request[Any, Any, Any],
        service: RunService,
        principal: Principal,
        streams: OpenStreams,
        callbacks: CallbackService,
        limits: Limits,
    ) -> None:
        self._request = request
        self._service = service
        self._caller = self._principal = principal
        self._streams = streams
        self._callbacks = callbacks
        self._limits = limits
        self._standing: Standing | None = None
        self._checked: dict[str, RequestError | None] = {}
        self._key: IdempotencyKey | None = None
        self._keyed = False

    async def start(self, wanted: StartRun, index: int = 0) -> Started:
        """The run, started under the request's key; `index` tells the runs of one request apart.

        Raises what `RunService.start` does, and `RequestError` for a key that is none, a callback that may not be called, and
        a caller whose limits are used up.
        """
        # Whoever may name another user sees what is made for it, in this request.
        self._principal = self._caller.acting_for(wanted.user_id)
        key = await self._key_of_all()
        if key is not None:
            # No header has a line end in it, so these are nobody's keys.
            own = key if index == 0 else msgspec.structs.replace(key, key=f"{key.key}\n{index}")
            wanted = msgspec.structs.replace(wanted, key=own)
        return await self._counted(wanted, lambda: self._start(wanted))

    async def _counted(self, wanted: StartRun, start: Callable[[], Awaitable[Started]]) -> Started:
        started, self._standing = await self._limits.started(
            self._caller,
            wanted.user_id,
            start,
            lambda: self._service.replay(self._principal, wanted.key, wanted.timeout),
        )
        return started

    async def _start(self, wanted: StartRun) -> Started:
        url = wanted.callback_url
        if url is not None:
            await self.check_urls([url])
            if (wrong := self._checked[url]) is not None:
                raise wrong
        return await self._service.start(self._caller, wanted)

    async def check_urls(self, urls: Iterable[str]) -> None:
        """Find out at once which of them may be called; a run that names one that may not is refused."""
        new = [url for url in dict.fromkeys(urls) if url not in self._checked]
        self._checked |= dict(zip(new, await asyncio.gather(*map(self._check, new)), strict=True))

    async def _check(self, url: str) -> RequestError | None:
        try:
            await self._callbacks.check_url(url)
        except RequestError as error:
            return error
        return None

    async def _key_of_all(self) -> IdempotencyKey | None:
        """The request's key; the whole body is read for it, so that is done once."""
        if not self._keyed:
            self._key = await key_of(self._request)
            self._keyed = True
        return self._key

    async def resume(self, run_id: str, *, stop_after: str | None) -> Started:
        """That run as it goes on, or the one that goes on for it; under the request's key."""
        key = await self._key_of_all()
        return await self._counted(
            StartRun(input=None, key=key),
            lambda: self._service.resume(self._principal, run_id, stop_after=stop_after, key=key),
        )

    def headers(self, started: Started) -> dict[str, str]:
        """What the answer says of the run and of its caller's limits."""
        return replayed(started) | limit_headers(self._standing)

    async def answer(self, wanted: StartRun, build: Build, *, include_steps: bool = False) -> Response[Any]:
        """200 with what `build` makes of the run's end, 202 where it waits. Raises `RunFailed` where there is no answer."""
        started = await self.start(wanted)
        end = await self._result(started)
        headers = self.headers(started)
        if isinstance(end, RunFinished) and run_status_error(end.status):
            raise RunFailed(started.run_id, end, headers)
        steps = await self._service.steps(self._principal, started.run_id) if include_steps else None
        if isinstance(end, RunWaiting):
            return Response(_waiting(started, end, steps), status_code=202, headers=headers)
        return Response(build(started, end, steps), status_code=200, headers=headers)

    async def _result(self, started: Started) -> RunFinished | RunWaiting:
        """How the run ended, or that it waits; nobody is told whose key was revoked meanwhile."""
        outcome = await self._service.result(started)
        await still_allowed(self._request)
        return outcome

    async def stream(self, wanted: StartRun, *, include_steps: bool = False) -> Stream:
        """The run as it goes on, under the quick names, from its first event."""
        headers: dict[str, str] = {}

        async def begin() -> Content:
            started = await self.start(wanted)
            headers.update(self.headers(started))
            view = sse.QuickView(
                run_id=started.run_id,
                agent_version=started.agent_version,
                request_id=request_id(self._request),
                experiments=started.experiments,
                steps=(lambda: self._service.steps(self._principal, started.run_id)) if include_steps else None,
            )
            return sse.encode(self._service.follow(started), view.frames, through_waits=False)

        return await self._streams.open(
            begin, tenant=self._principal.tenant, headers=headers, credential=credential_of(self._request)
        )

    async def run(self, started: Started, *, background: bool) -> Response[Run]:
        """The run as a resource: 201 once it has ended or waits; 202 at once, or where its caller's time is over before it."""
        if not background:
            await self._result(started)
        run = await self._service.run(self._principal, started.run_id)
        headers = self.headers(started) | {"Location": f"/v1/runs/{run.id}"}
        accepted = background or run.status in ("queued", "running")
        return Response(run, status_code=202 if accepted else 201, headers=headers)


def turns_of_requests(
    *, service: RunService, streams: OpenStreams, callbacks: CallbackService, limits: Limits
) -> Provide:
    """The dependency that is each request's turns. It needs nothing injected: litestar runs a task for each of several dependencies."""

    def turns(request: Request[Any, Any, Any]) -> Turns:
        return Turns(
            request=request,
            service=service,
            principal=principal_of(request),
            streams=streams,
            callbacks=callbacks,
            limits=limits,
        )

    return Provide(turns, sync_to_thread=False)


def replayed(started: Started) -> dict[str, str]:
    """The header that says that the run is an earlier request's."""
    return {REPLAYED: "true"} if started.replayed else {}


def _waiting(started: Started, end: RunWaiting, steps: list[Step] | None) -> Waiting:
    return Waiting(
        run_id=started.run_id,
        session_id=started.session_id,
        status="waiting",
        approvals=end.approvals,
        metadata=sse.metadata(started.agent_version, end, steps, started.experiments),
    )
