"""The last look at a call before its tool runs, and the first at what it gives back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from app.domain.errors import DatabaseUnavailable
from app.domain.messages import ToolCall
from app.domain.tool_policy import Caps, ToolUse, ToolUses
from app.domain.tools import Toolbox, ToolContext, ToolResult, ToolSpec, ToolStatus
from app.safety import arguments
from app.safety.detector import LONG, signals

log = logging.getLogger(__name__)

OVER = {
    "calls_per_run": "it was called {caps.calls_per_run} times in this run, which is all that it may",
    "calls": "it was called {caps.calls} times within {caps.window:g} s, which is all that it may",
    "spend": "that would be more than the {caps.spend.most:g} that it may spend within {caps.window:g} s",
}


class GuardedToolbox:
    """A `Toolbox` that refuses calls whose paths lead elsewhere by a link, or that exceed a cap, and looks at what comes from outside.

    A call is counted before it runs, once however often it is repeated under its id; one that nobody can count does not run.
    """

    def __init__(self, *, toolbox: Toolbox, uses: ToolUses) -> None:
        self._toolbox = toolbox
        self._uses = uses

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The wrapped toolbox's."""
        return self._toolbox.specs(names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """The wrapped toolbox's result with the detector's signals, or why the call was refused."""
        if spec is None or (spec.own_words and not spec.rules.allow and spec.rules.caps is None):
            return await self._toolbox.run(spec, call, context)
        if any(rule.under for rule in spec.rules.allow.values()):
            why = await asyncio.to_thread(arguments.leaving, spec, call.arguments)
            if why is not None:
                return _refused(call, "denied", f"{spec.name} was not run: this agent does not allow that: {why}.")
        if spec.rules.caps is not None and (refusal := await self._over(spec.rules.caps, call, context)) is not None:
            return refusal
        result = await self._toolbox.run(spec, call, context)
        if spec.own_words or result.status == "denied":
            return result
        return msgspec.structs.replace(result, signals=await _seen(result))

    async def _over(self, caps: Caps, call: ToolCall, context: ToolContext) -> ToolResult | None:
        spends: Decimal | str | None = None
        if caps.spend is not None:
            spends = arguments.amount(caps.spend, arguments.read(call.arguments) or {})
        if isinstance(spends, str):
            return _refused(call, "denied", f"{call.name} was not run: {spends}.")
        use = ToolUse(
            tenant=context.tenant,
            user_id=context.user_id,
            tool=call.name,
            run_id=context.run_id,
            call_id=call.id,
            amount=spends,
        )
        try:
            over = await self._uses.use(use, caps)
        except DatabaseUnavailable:
            log.warning("tool_not_counted", extra={"tool": call.name})
            return _refused(
                call, "error", f"{call.name} was not run: its calls cannot be counted now. Try again later."
            )
        if over is None:
            return None
        log.info("tool_cap_reached", extra={"tool": call.name, "cap": over})
        why = OVER[over].format(caps=caps)
        return _refused(call, "denied", f"{call.name} was not run: {why}. Answer without it.")


async def _seen(result: ToolResult) -> tuple[str, ...]:
    """What the detector sees in it. A long text is not read on the loop."""
    text = result.text
    return await asyncio.to_thread(signals, text) if len(text) > LONG else signals(text)


def _refused(call: ToolCall, status: ToolStatus, why: str) -> ToolResult:
    return ToolResult(call_id=call.id, name=call.name, status=status, result=msgspec.Raw(msgspec.json.encode(why)))
