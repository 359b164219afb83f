"""What models read of a conversation, and what is shown of their words: real values on our side, placeholders on theirs.

The journal has the real values: it is what the user said and what tools did. A model reads placeholders, in all that it is
sent; which value each of them is stands beside a `context.redacted` event, where only the run's owner reads it. That event
is stored before the first request with the placeholder leaves, so that after any crash, and in every later turn, the same value
has the same one.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from app.domain import events as ev
from app.domain.messages import Message, ToolCall
from app.domain.models import Completed
from app.domain.observers import RunObserver
from app.domain.screening import OutputGuard, Screen, Shown
from app.runs.ledger import Ledger
from app.safety.written import Plain


class Answer:
    """One text of a model as it is shown, while it grows: first guarded, then with real values. `plain`: it is JSON."""

    def __init__(self, guard: OutputGuard | None, shown: Shown | None, plain: Plain | None = None) -> None:
        self.guard = guard
        self._plain = plain
        self._shown = shown
        self._said: list[str] = []

    def push(self, text: str) -> str:
        """What may be shown after that much more; may be nothing yet."""
        if self._plain is not None:
            text = self._plain.push(text)
        if self.guard is not None:
            text = self.guard.push(text)
        if self._shown is not None and text:
            text = self._shown.push(text)
        self._said.append(text)
        return text

    def end(self) -> str:
        """The rest: the text is whole."""
        text = "" if self._plain is None else self._plain.end()
        if self.guard is not None:
            text = self.guard.push(text) + self.guard.end()
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
            kinds = Counter(placeholder[1:-1].rpartition("_")[0] for placeholder in new)
            self._ledger.add(ev.ContextRedacted(entities=dict(kinds)), msgspec.json.encode(new))
            for kind in kinds:
                self._observer.guarded("secret" if kind == "SECRET" else "pii", "redacted")

    def answer(self) -> Answer | None:
        """What a text of the model that begins now goes through. None: it is shown as it is."""
        state = self._ledger.state
        guard = self._screen.guard(state.agent.screening, state.agent.instructions)
        shown = Shown(state.placeholders.show) if state.placeholders.values else None
        plain = None if guard is None or state.agent.output_schema is None else Plain()
        return None if guard is None and shown is None else Answer(guard, shown, plain)

    def completed(self, completed: Completed, answer: Answer | None) -> Completed:
        """The model's answer as it is stored: what was shown of it, and calls with the values that their tools get.

        The provider's own items, which have placeholders as the model wrote them, stay; where something was taken out they go.
        """
        state = self._ledger.state
        if state.placeholders.values:
            completed = msgspec.structs.replace(completed, tool_calls=tuple(map(self._call, completed.tool_calls)))
        if answer is None:
            return completed
        acted = set() if answer.guard is None else answer.guard.acted
        for guard in sorted(acted):
            self._observer.guarded(guard, "removed")
        native = None if acted else completed.native
        return msgspec.structs.replace(completed, content=answer.whole, native=native)

    def _call(self, call: ToolCall) -> ToolCall:
        state = self._ledger.state
        if not state.agent.screening.reveals(call.name):
            return call
        return ToolCall(call.id, call.name, state.placeholders.arguments(call.arguments))

    async def _message(self, message: Message) -> Message:
        placeholders = self._ledger.state.placeholders
        hidden = msgspec.structs.replace(
            message,
            content=await self._hidden(message.content),
            context=None if message.context is None else await self._hidden(message.context),
            tool_calls=tuple(
                [ToolCall(call.id, call.name, await self._hidden(call.arguments)) for call in message.tool_calls]
            ),
        )
        if message.native is not None:
            own = bytes(message.native.items).decode(errors="replace")
            if any(value in own for value in placeholders.values.values()):  # from before the policy was on
                hidden = msgspec.structs.replace(hidden, native=None)
        return hidden

    async def _hidden(self, text: str) -> str:
        found = await self._screen.find(text) if text else []
        return self._ledger.state.placeholders.hide(text, found)

    async def _instructions(self, system: str, own: str) -> str:
        """The system text without what came into it from a caller's context. What the operator wrote there stays."""
        found = [one for one in await self._screen.find(system) if system[one.start : one.end] not in own]
        return self._ledger.state.placeholders.hide(system, found)
