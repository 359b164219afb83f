"""The tool ledger: the intent of every call is stored before it runs, its outcome as it ends.

After a crash a call with an outcome is never run again; one without is repeated under the same key where the tool only
reads or is idempotent, and is `outcome_unknown` where it writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from app.agent.decide import CallTools
from app.domain import events as ev
from app.domain.fold import UNSEEN
from app.domain.messages import ToolCall
from app.domain.observers import RunObserver
from app.domain.stores import Owned
from app.domain.tools import SessionStateAccess, Toolbox, ToolContext, ToolResult, ToolSpec, anything, unseen
from app.runs import record
from app.runs.journal import Entry
from app.runs.ledger import Ledger
from app.runs.stop import HANDED_ON, Stop
from app.safety import arguments

TOOL_GRACE = 5.0
"""Seconds that a stopped tool has to end before its outcome is written without it."""
STOPPED = "The run was stopped while this tool was running."


class ToolCalls:
    """Performs `CallTools` for one run."""

    def __init__(
        self,
        *,
        owned: Owned,
        ledger: Ledger,
        toolbox: Toolbox,
        observer: RunObserver,
        stop: Stop,
        session_state: SessionStateAccess,
    ) -> None:
        self._owned = owned
        self._ledger = ledger
        self._toolbox = toolbox
        self._observer = observer
        self._stop = stop
        self._session_state = session_state

    async def perform(self, decision: CallTools) -> None:
        """Every call has its outcome in the ledger, but those that another owner is to repeat. Raises `RunStopped`."""
        ledger = self._ledger
        self._intend(decision)
        for call, reason in decision.denied:
            self._observer.denied(call.name)
            result = ToolResult(call_id=call.id, name=call.name, status="denied", result=record.raw_text(reason))
            ledger.add(record.tool_finished(result, None, 0.0))
        for call in decision.lost:
            ledger.add(record.unseen_end(call, self._effect(call), UNSEEN))
        await ledger.flush()
        began = time.monotonic()
        running = {asyncio.create_task(self._run(call)): call for call in decision.calls}
        try:
            while running:
                async with self._stop:
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    call = running.pop(task)
                    ledger.add(record.tool_finished(task.result(), self._spec(call), time.monotonic() - began))
                await ledger.flush()
        except BaseException:
            await self._abandon(running, began)
            raise

    def _intend(self, decision: CallTools) -> None:
        """The intents of the calls that have none yet."""
        state = self._ledger.state
        for call in (*decision.calls, *(call for call, _ in decision.denied)):
            if call.id not in state.started:
                arguments = record.arguments(state.arguments(call))
                self._ledger.add(
                    ev.ToolStarted(call_id=call.id, name=call.name, arguments=arguments, key=self._key(call))
                )

    def _key(self, call: ToolCall) -> str:
        """The same for every repetition of that call, and for nothing else."""
        state = self._ledger.state
        named = f"{self._owned.run_id}\n{state.iterations}\n{call.id}\n{call.name}\n{state.arguments(call)}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    async def _run(self, call: ToolCall) -> ToolResult:
        owned, state = self._owned, self._ledger.state
        spec = self._spec(call)
        context = ToolContext(
            run_id=owned.run_id,
            session_id=owned.session_id,
            tenant=owned.tenant,
            user_id=owned.user_id,
            call_id=call.id,
            idempotency_key=self._key(call),
            deadline=self._stop.deadline,
            emit=partial(self._progress, call),
            state=self._session_state,
            permits=anything if spec is None else partial(arguments.unlisted, spec),
        )
        effective = ToolCall(call.id, call.name, state.arguments(call))
        return await self._toolbox.run(spec, effective, context)

    async def _abandon(self, running: Mapping[asyncio.Task[ToolResult], ToolCall], began: float) -> None:
        """Stop the tools and write down how each ended; a `write` that was under way may have taken effect."""
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=self._stop.grace(TOOL_GRACE))
        for task, call in running.items():
            if task.done() and not task.cancelled() and task.exception() is None:
                self._ledger.add(record.tool_finished(task.result(), self._spec(call), time.monotonic() - began))
            elif self._stop.cause not in HANDED_ON or unseen(self._effect(call)) == "outcome_unknown":
                self._ledger.add(record.unseen_end(call, self._effect(call), STOPPED))

    def _effect(self, call: ToolCall) -> Any:
        """What the call does; a tool that the agent does not have does nothing."""
        spec = self._spec(call)
        return spec.effect if spec else "read"

    def _spec(self, call: ToolCall) -> ToolSpec | None:
        return self._ledger.state.agent.tool(call.name)

    async def _progress(self, call: ToolCall, name: str, data: Any) -> None:
        if call.id in self._ledger.state.open_calls:  # a thread may go on after its call's time was over
            progress = ev.ToolProgress(call_id=call.id, name=name, data=data)
            await self._ledger.journal.append([Entry(progress)])
