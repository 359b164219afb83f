"""A service of our own, in this process, for the time of a chat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec

from app.cli.chat_service import LEFT, STOP_GRACE, Choice, left
from app.cli.own import own_services
from app.domain.errors import RequestError, SteadyhandError
from app.domain.events import RunFinished
from app.domain.messages import JsonObject
from app.domain.principals import ANONYMOUS
from app.domain.runs import TERMINAL
from app.runs.approvals import ApprovalService
from app.runs.service import RunService, Started, StartRun
from app.runs.sessions import SessionService
from app.runs.stream import Item
from app.workspace.load import Workspace


class OwnService:
    """A service of this process; see `own_service`."""

    def __init__(
        self,
        *,
        runs: RunService,
        sessions: SessionService,
        approvals: ApprovalService,
        name: str,
        lost: asyncio.Future[None],
    ) -> None:
        self.lost = lost
        self._runs = runs
        self._sessions = sessions
        self._approvals = approvals
        self._name = name
        self._starting: asyncio.Task[Started] | None = None

    async def check(self, agent: str | None) -> str:
        return f"{self._runs.agents.get(agent).name}, in this process ({self._name})"

    async def messages(self, session_id: str) -> int:
        try:
            return len(await self._sessions.messages(ANONYMOUS, session_id))
        except RequestError as error:
            if error.code == "not_found":
                return 0
            raise

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        wanted = StartRun(input=text, agent=agent, session_id=session_id)
        self._starting = asyncio.create_task(self._runs.start(ANONYMOUS, wanted))
        started = await asyncio.shield(self._starting)
        async with aclosing(self._runs.follow(started)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def decide(
        self, approval_id: str, decision: Choice, arguments: JsonObject | None, comment: str | None
    ) -> None:
        await self._approvals.decide(ANONYMOUS, approval_id, decision, arguments, comment)

    async def leave(self) -> str:
        """Stops the run, also one that is just being accepted."""
        if self._starting is None:
            return "stopped"
        started = await self._starting
        run, _ = await self._runs.cancel(ANONYMOUS, started.run_id, LEFT)
        status = run.status
        if status not in TERMINAL:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE):
                    status = (await self._ended(started)).status
        return left(started.run_id, status)

    async def _ended(self, started: Started) -> RunFinished:
        async with aclosing(self._runs.follow(started)) as batches:
            async for batch in batches:
                if batch and batch[-1].name == "run.finished":
                    return msgspec.json.decode(batch[-1].payload, type=RunFinished)
        raise SteadyhandError(f"the answer belongs to run {started.run_id}")

    async def reset(self, session_id: str) -> None:
        await self._sessions.reset(ANONYMOUS, session_id)


@asynccontextmanager
async def own_service(workspace: Workspace) -> AsyncIterator[OwnService]:
    """A service of our own for the time of the block."""
    async with own_services(workspace) as (services, name, lost):
        yield OwnService(
            runs=services.runs.service,
            sessions=services.runs.sessions,
            approvals=services.runs.approvals,
            name=name,
            lost=lost,
        )
