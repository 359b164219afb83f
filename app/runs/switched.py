"""Tools that can be switched off, whoever approved their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from app.domain.controls import Switch
from app.domain.messages import ToolCall
from app.domain.tools import Toolbox, ToolContext, ToolResult, ToolSpec, ToolStatus, unseen
from app.runs.record import raw_text
from app.runs.switches import Switches

DENIED = "{} Do not call the tool again; answer without it."
STOPPED = "{} The call was stopped while it was running."


class SwitchedToolbox:
    """A `Toolbox` whose tools do nothing while they are off: the model is told so. A call that is running then is stopped.

    Safe for concurrent use; each call runs in a task of its own. `denied` is told the name of each tool that was not called.
    """

    def __init__(self, *, toolbox: Toolbox, switches: Switches, denied: Callable[[str], None]) -> None:
        self._toolbox = toolbox
        self._switches = switches
        self._denied = denied
        self._running: dict[asyncio.Task[object], tuple[str, str]] = {}
        self._stopped: dict[asyncio.Task[object], Switch] = {}
        switches.tells(self._changed)

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The wrapped toolbox's."""
        return self._toolbox.specs(names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """The wrapped toolbox's result, or that the tool is off."""
        if (switch := self._switches.tool(context.tenant, call.name)) is not None:
            self._denied(call.name)
            return _result(call, "denied", DENIED, switch)
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = (context.tenant, call.name)
        try:
            return await self._toolbox.run(spec, call, context)
        except asyncio.CancelledError:
            stopped = self._stopped.get(task)
            if stopped is None or task.uncancel():  # somebody else wants it to end, too
                raise
            return _result(call, unseen(spec.effect if spec else None), STOPPED, stopped)
        finally:
            del self._running[task]
            self._stopped.pop(task, None)

    def _changed(self) -> None:
        for task, (tenant, name) in self._running.items():
            if task not in self._stopped and (switch := self._switches.tool(tenant, name)) is not None:
                self._stopped[task] = switch
                task.cancel()


def _result(call: ToolCall, status: ToolStatus, text: str, switch: Switch) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, status=status, result=raw_text(text.format(switch)))
