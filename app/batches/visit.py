"""One visit to one part: it is sent once, asked about until its provider has ended it, and its results are taken in.

Whatever is done at the provider is written down before, and what came of it after. A process may die between any two lines of this file:
whoever claims the part next finds it as `submitting` and looks for it at the provider before it sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

import msgspec

from app.batches.outcomes import outcome
from app.batches.requests import Render, place, request
from app.domain.agents import Agent
from app.domain.batches import (
    BatchProvider,
    BatchRequest,
    BatchStore,
    ItemError,
    ItemOutcome,
    ItemStatus,
    Part,
    PartStatus,
    RemoteResult,
)
from app.domain.errors import FailureKind, ProviderError
from app.domain.screening import Screen

log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 8_192
"""Characters of an answer that are looked at at once."""
CHUNK = 200
"""Items that are read and stored at once."""
HOPELESS: frozenset[FailureKind] = frozenset(
    {"auth", "permission", "quota", "unknown_model", "bad_request", "content_policy", "tool_schema", "context_window"}
)
"""Failures of a submission after which the same one would fail again."""
LONGEST_WISH = 3600.0
"""Seconds that a provider's Retry-After can ask for."""
RECOLLECTIONS = 2
"""How often results are asked for again that do not speak of every item."""


class Pauses(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, jittered by a fifth. Looks at the provider, and tries of what failed, come after `first`, each time half as much later,
    up to `longest`. `settle`: what was sent and not answered is there by then, if it ever is. `again`: before items are sent again.
    """

    first: float = 5.0
    longest: float = 300.0
    settle: float = 60.0
    again: float = 30.0

    def after(self, tries: int) -> float:
        """The pause after so many looks in vain."""
        return min(self.first * 1.5 ** min(tries, 40), self.longest) * random.uniform(0.8, 1.2)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that calls of a provider may take: one that sends a part with all its requests or looks for it, and any other."""

    submit: float = 1800.0
    call: float = 60.0


class Visit:
    """What one claim does for one part."""

    def __init__(
        self,
        *,
        store: BatchStore,
        part: Part,
        provider: BatchProvider,
        agent: Agent,
        render: Render,
        pauses: Pauses,
        limits: Limits,
        screen: Screen,
    ) -> None:
        self._store = store
        self._part = part
        self._tries = part.tries
        self._provider = provider
        self._agent = agent
        self._render = render
        self._pauses = pauses
        self._limits = limits
        self._screen = screen

    async def run(self) -> None:
        """As much as can be done now; afterwards the part is let go of, or another's. Raises `DatabaseUnavailable`."""
        steps = {
            "due": self._begin,
            "submitting": self._recover,
            "in_progress": self._look,
            "collecting": self._collect,
        }
        try:
            await steps[self._part.status]()
        except ProviderError as error:
            await self._pause(self._part.status, _said(error), at_least=error.retry_after)

    async def _begin(self) -> None:
        if self._over():
            await self._end_unsent()
            return
        try:
            marker = await self._call(self._provider.marker())
        except ProviderError as error:
            await self._refused(error)
            return
        if not await self._store.intend(self._part, marker):  # cancelled since it was claimed, or another's
            await self._store.pause(self._part, 0.0, "due", None, self._tries)
            return
        await self._send()

    async def _recover(self) -> None:
        """It may have been sent: it is sent again only where it certainly is not there."""
        part = self._part
        known = await self._store.known()
        looking = self._provider.find(part.id, part.marker or "", part.items, known)
        found = await self._call(looking, self._limits.submit)
        if found.remote_id is not None:
            log.info("a part of a batch was found at its provider", extra={"part": part.id})
            await self._note(found.remote_id)
        elif not found.certain:
            unsure = "the provider cannot say yet whether it has this part, which is not sent twice"
            await self._pause("submitting", ItemError("unconfirmed", unsure))
        elif self._over():
            await self._end_unsent()
        else:
            await self._send()

    async def _send(self) -> None:
        self._part = msgspec.structs.replace(self._part, status="submitting")
        try:
            remote_id = await self._call(self._provider.submit(self._part.id, self._requests), self._limits.submit)
        except ProviderError as error:
            status = error.status or 0
            if error.unsent or error.kind == "auth" or (400 <= status < 500 and status != 408):
                await self._refused(error)
            else:  # it may be there all the same: it is looked for before it is sent again
                await self._pause("submitting", _said(error), at_least=self._pauses.settle)
            return
        await self._note(remote_id)

    async def _refused(self, error: ProviderError) -> None:
        """The provider has nothing of it."""
        if error.kind in HOPELESS:
            log.warning("a part of a batch was refused", extra={"part": self._part.id, "reason": str(error)})
            await self._end("errored", _said(error))
        else:
            await self._pause("due", _said(error), at_least=error.retry_after)

    async def _note(self, remote_id: str) -> None:
        """The provider has it: that is written down, or, where the part is another's by now, undone."""
        part = self._part
        if await self._store.noted(part, remote_id):
            self._part, self._tries = msgspec.structs.replace(part, status="in_progress", remote_id=remote_id), 0
            await self._look()
        elif await self._store.remote_id(part.id) != remote_id:
            log.warning("a part of a batch was sent for nobody; it is cancelled", extra={"part": part.id})
            await self._call(self._provider.cancel(remote_id))

    async def _look(self) -> None:
        part, remote_id = self._part, self._remote_id()
        if self._over() and not part.told:
            await self._call(self._provider.cancel(remote_id))
            await self._store.told(part)
        try:
            progress = await self._call(self._provider.progress(remote_id))
        except ProviderError as error:
            if error.status != 404:
                raise
            await self._end("errored", ItemError("batch_lost", "the provider does not know this batch any more"))
            return
        if not progress.ended:
            await self._pause("in_progress", None)
        elif progress.failed is not None and progress.again and not self._over():
            await self._pause("due", progress.failed, at_least=self._pauses.settle)
        elif progress.failed is not None:
            log.warning("a batch was refused by its provider", extra={"part": part.id, "code": progress.failed.code})
            await self._end("errored", progress.failed)
        elif await self._store.collecting(part):
            self._part, self._tries = msgspec.structs.replace(part, status="collecting"), 0
            await self._collect()

    async def _collect(self) -> None:
        """Take in every result. What one says twice counts once; what none speaks of is asked for again, then sent again."""
        part = self._part
        waiting: list[ItemOutcome] = []
        async with aclosing(self._provider.results(self._remote_id(), self._requests)) as results:
            async for result in results:
                n = place(part.id, result.request_id)
                if n is None:
                    log.warning("a result of a batch is of none of its items", extra={"part": part.id})
                    continue
                expired = part.expired and not part.cancelled
                waiting.append(outcome(self._agent, n, await self._guarded(result), expired=expired))
                if len(waiting) >= CHUNK:
                    if not await self._store.record(part, waiting):
                        return
                    waiting = []
        if waiting and not await self._store.record(part, waiting):
            return
        missing = 0 if part.told else await self._store.unanswered(part)
        if missing and self._tries < RECOLLECTIONS:
            silent = f"the provider says nothing of {missing} items; it is asked again"
            await self._pause("collecting", ItemError("results_missing", silent))
        elif part.cancelled:
            await self._end("cancelled", ItemError("cancelled", "the batch was cancelled"))
        elif part.expired:
            await self._end("expired", ItemError("expired", "the batch expired before the provider answered"))
        else:
            await self._end(
                "errored", ItemError("results_missing", "the provider said nothing of this item"), again=True
            )

    async def _guarded(self, result: RemoteResult) -> RemoteResult:
        """The result without what the agent's guards take out of its answer. Others have their turn while a long one is looked at."""
        guard = self._screen.guard(self._agent.screening, self._agent.instructions)
        if guard is None or result.answer is None:
            return result
        text, parts = result.answer.content, []
        for at in range(0, len(text), PIECE):
            if at:
                await asyncio.sleep(0)
            parts.append(guard.push(text[at : at + PIECE]))
        content = "".join((*parts, guard.end()))
        return msgspec.structs.replace(result, answer=msgspec.structs.replace(result.answer, content=content))

    async def _end_unsent(self) -> None:
        if self._part.cancelled:
            await self._end("cancelled", ItemError("cancelled", "the batch was cancelled before this was sent"))
        else:
            await self._end("expired", ItemError("expired", "the batch expired before this was sent"))

    async def _end(self, left: ItemStatus, error: ItemError, *, again: bool = False) -> None:
        part = self._part
        resent = await self._store.end(part, left, error, again=self._pauses.again if again else None)
        if resent is not None:
            log.info("a part of a batch has ended", extra={"part": part.id, "items": part.items, "sent_again": resent})

    async def _pause(self, status: PartStatus, error: ItemError | None, *, at_least: float | None = None) -> None:
        """Let go of it; it is due again after a while that grows from try to try, until something has changed."""
        pause = max(self._pauses.after(self._tries), min(at_least or 0.0, LONGEST_WISH))
        await self._store.pause(self._part, pause, status, error, self._tries + 1)

    def _over(self) -> bool:
        return self._part.cancelled or self._part.expired

    def _remote_id(self) -> str:
        assert self._part.remote_id is not None, "a part under way has its provider's id"
        return self._part.remote_id

    async def _requests(self) -> AsyncGenerator[BatchRequest, None]:
        after = -1
        while items := await self._store.items(self._part, after, CHUNK):
            for item in items:
                yield request(self._agent, self._render, self._part.id, item.n, item.input, item.context)
            after = items[-1].n

    async def _call(self, asked: Awaitable[T], seconds: float | None = None) -> T:
        """What the provider says, if it says it in time. Raises ProviderError."""
        try:
            async with asyncio.timeout(seconds or self._limits.call):
                return await asked
        except TimeoutError as error:
            raise ProviderError("total_timeout", "the provider did not answer in time") from error


def _said(error: ProviderError) -> ItemError:
    return ItemError(error.kind, str(error))
