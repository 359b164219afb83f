"""What models read of a conversation, and what is shown of their words: real values on our side, placeholders on theirs.

The journal has the real values: it is what the user said and what tools did. A model reads placeholders, in all that it is
sent; which value each of them is stands beside a `context.redacted` event, where only the run's owner reads it. That event
is stored before the first request with the placeholder leaves, so that after any crash, and in every later turn, the same value
has the same one.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.messages import Message, ToolCall
from app.domain.models import Completed
from app.domain.observers import RunObserver
from app.domain.provenance import Taint
from app.domain.screening import OutputGuard, Screen, secret
from app.runs.ledger import Ledger
from app.safety.restored import Restored
from app.safety.structured import Structured, Text

_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|.)")


def _decodes(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class Answer:
    """One text of a model as it is shown, while it grows: first guarded, then with real values."""

    def __init__(self, guard: OutputGuard | None, shown: Text | None) -> None:
        self.guard = guard
        self._shown = shown
        self._read = 0
        self._said: list[str] = []

    def missing(self, whole: str) -> str:
        """What of the whole text did not come piece by piece, and is still to be pushed."""
        return whole[self._read :]

    def push(self, text: str) -> str:
        """What may be shown after that much more; may be nothing yet."""
        self._read += len(text)
        if self.guard is not None:
            text = self.guard.push(text)
        if self._shown is not None and text:
            text = self._shown.push(text)
        self._said.append(text)
        return text

    def end(self) -> str:
        """The rest: the text is whole."""
        text = "" if self.guard is None else self.guard.end()
        if self._shown is not None:
            text = self._shown.push(text) + self._shown.end()
        self._said.append(text)
        return text

    @property
    def whole(self) -> str:
        """All that was shown."""
        return "".join(self._said)


class Screened:
    """The screening of one execution."""

    def __init__(self, *, screen: Screen, ledger: Ledger, observer: RunObserver) -> None:
        self._screen = screen
        self._ledger = ledger
        self._observer = observer
        self._system = False

    async def look(self) -> None:
        """Everything that the next model call may be sent has been looked through; what is new has a placeholder, in the ledger."""
        state = self._ledger.state
        if state.agent.screening.pii == "off":
            return
        known = len(state.placeholders.values)
        if not self._system:
            state.system = await self._instructions(state.system, state.agent.instructions)
            self._system = True
        for message in (*state.history, *state.messages):
            key = (message.id, message.content)
            if key not in state.hidden:
                state.hidden[key] = await self._message(message)
        new = dict(list(state.placeholders.values.items())[known:])
        if new:
            named = (placeholder[1:-1].rpartition("_")[0] for placeholder in new)
            kinds = Counter("SECRET" if secret(kind) else kind for kind in named)
            self._ledger.add(ev.ContextRedacted(entities=dict(kinds)), msgspec.json.encode(new))
            for kind in kinds:
                self._observer.guarded("secret" if kind == "SECRET" else "pii", "redacted")

    def answer(self) -> Answer | None:
        """What a text of the model that begins now goes through. None: it is shown as it is.

        Where answers show no personal data, its placeholders stay, too.
        """
        state = self._ledger.state
        policy = state.agent.screening
        structured = state.agent.output_schema is not None
        guard = self._screen.guard(policy, state.agent.instructions, structured=structured)
        shown: Text | None = None
        if state.placeholders.values and policy.output != "pii":
            show = state.placeholders.show
            shown = (
                Structured(lambda _: Restored(show, policy.link_hosts))
                if structured
                else Restored(show, policy.link_hosts)
            )
        return None if guard is None and shown is None else Answer(guard, shown)

    def completed(self, completed: Completed, answer: Answer | None) -> Completed:
        """The model's answer as it is stored: what was shown of it, and calls with the values that their tools get.

        The provider's own items, which have placeholders as the model wrote them, stay; where something was taken out they go.
        """
        state = self._ledger.state
        if completed.tool_calls and state.placeholders.values:
            read = state.taint
            calls = tuple(self._call(call, read) for call in completed.tool_calls)
            completed = msgspec.structs.replace(completed, tool_calls=calls)
        if answer is None:
            return completed
        acted = set() if answer.guard is None else answer.guard.acted
        for guard in sorted(acted):
            self._observer.guarded(guard, "removed")
        native = None if acted else completed.native
        return msgspec.structs.replace(completed, content=answer.whole, native=native)

    def _call(self, call: ToolCall, read: Taint) -> ToolCall:
        state = self._ledger.state
        revealed = state.agent.screening.reveals(call.name, read)
        return ToolCall(call.id, call.name, state.placeholders.arguments(call.arguments, revealed))

    async def _message(self, message: Message) -> Message:
        read = (message.trust or ("untrusted" if message.role == "tool" else "user")) == "untrusted"
        hidden = msgspec.structs.replace(
            message,
            content=await self._hidden(message.content, read),
            context=None if message.context is None else await self._hidden(message.context),
            tool_calls=tuple(
                [
                    ToolCall(call.id, call.name, await self._arguments(call.arguments, read))
                    for call in message.tool_calls
                ]
            ),
        )
        if message.native is not None:
            own = _ESCAPE.sub(" ", bytes(message.native.items).decode(errors="replace"))
            if self._ledger.state.placeholders.has(own):  # from before the policy was on
                hidden = msgspec.structs.replace(hidden, native=None)
        return hidden

    async def _hidden(self, text: str, read: bool = False, keep: str = "") -> str:
        """`read`: nobody whom we trust wrote that text. `keep`: a text whose values stay."""
        if not text:
            return text
        steps = self._ledger.state.placeholders.hiding(text, await self._screen.find(text), keep=keep, read=read)
        while True:
            try:
                next(steps)
            except StopIteration as whole:
                return str(whole.value)
            await asyncio.sleep(0)

    async def _arguments(self, text: str, read: bool) -> str:
        """The JSON text of a call's arguments as it was written, but for what is hidden. Where that would be none any more (a number
        has become a placeholder), or something is written in escapes, its strings and numbers are hidden one by one.
        """
        hidden = await self._hidden(text, read)
        if "\\" not in text and (hidden == text or _decodes(hidden)):
            return hidden
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return hidden
        leaves = await self._leaves(value, read)
        return text if leaves == value else msgspec.json.encode(leaves).decode()

    async def _leaves(self, value: Any, read: bool) -> Any:
        if isinstance(value, dict):
            return {await self._hidden(key, read): await self._leaves(one, read) for key, one in value.items()}
        if isinstance(value, list):
            return [await self._leaves(one, read) for one in value]
        if isinstance(value, str):
            return await self._hidden(value, read)
        if isinstance(value, int | float) and not isinstance(value, bool):
            hidden = await self._hidden(text := str(value), read)
            return value if hidden == text else hidden
        return value

    async def _instructions(self, system: str, own: str) -> str:
        """The system text without what came into it from a caller's context. What the operator wrote there stays."""
        return await self._hidden(system, keep=own)
