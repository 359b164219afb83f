"""From events back to a conversation. Pure: the same events give the same state, in the runner, after a restart and in history."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.messages import Message, Native, ToolCall, Usage
from app.domain.tools import result_text

UNFINISHED = "The run ended before this call finished; whether it took effect is not known."


class Conversation:
    """The messages of one run, in order, grown event by event.

    `open_calls` are the calls of the last assistant message that have no result yet; `rejected` are the ids of messages
    that do not count (`message.reset`).
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.open_calls: dict[str, ToolCall] = {}
        self.rejected: set[str] = set()

    def apply(self, event: ev.Event | None, private: bytes | None = None) -> None:
        """Take one event in; None is one that this release does not know. `private` is what the journal keeps beside it."""
        if isinstance(event, ev.MessageCompleted):
            self.add(_message(event.message, private))
        elif isinstance(event, ev.ToolFinished):
            self.open_calls.pop(event.call_id, None)
            self.messages.append(
                tool_message(event.call_id, event.name, result_text(event.result), event.status != "ok")
            )
        elif isinstance(event, ev.RunCreated):
            self.messages.append(user_message(event))
        elif isinstance(event, ev.MessageReset):
            self.rejected.add(event.message_id)

    def add(self, message: Message) -> None:
        """Take in a complete assistant message."""
        self.messages.append(message)
        self.open_calls = {call.id: call for call in message.tool_calls}

    def settled(self) -> list[Message]:
        """The messages that later turns see: no rejected drafts, and every call answered, as providers demand."""
        kept = [message for message in self.messages if message.id not in self.rejected]
        return kept + [tool_message(call.id, call.name, UNFINISHED, True) for call in self.open_calls.values()]


class RunState(Conversation):
    """One run as `decide` sees it: its agent, the session's messages before it, its own, and what it has used."""

    def __init__(self, *, agent: Agent, system: str, history: tuple[Message, ...]) -> None:
        super().__init__()
        self.agent = agent
        self.system = system
        self.history = history
        self.iterations = 0
        self.closed = False
        self.call_ids: set[str] = set()
        self.usage: Usage | None = None
        self.model: str | None = None

    def apply(self, event: ev.Event | None, private: bytes | None = None) -> None:
        """Take one event in."""
        super().apply(event, private)
        if isinstance(event, ev.UsageRecorded):
            self.record(event)

    def add(self, message: Message) -> None:
        """Take in a complete assistant message and count it.

        An answer to a rejected draft is no iteration of its own; a message after the last iteration closes the run.
        """
        repairs = bool(self.messages) and self.messages[-1].id in self.rejected
        super().add(message)
        self.call_ids.update(self.open_calls)
        if repairs:
            return
        if self.iterations >= self.agent.limits.iterations:
            self.closed = True
        else:
            self.iterations += 1

    def record(self, event: ev.UsageRecorded) -> None:
        """Add one attempt to what the run has used."""
        if event.usage is not None:
            self.usage = event.usage if self.usage is None else self.usage + event.usage
        if event.outcome == "ok":
            self.model = event.model


def user_message(event: ev.RunCreated) -> Message:
    """The user's message that a run begins with. An input that is no string is given to the model as JSON."""
    content = event.input if isinstance(event.input, str) else msgspec.json.encode(event.input).decode()
    return Message(id=event.message_id, role="user", content=content, context=event.preface)


def tool_message(call_id: str, name: str, text: str, is_error: bool) -> Message:
    """The answer to one call."""
    return Message(id=f"result-{call_id}", role="tool", content=text, call_id=call_id, name=name, is_error=is_error)


def conversation(runs: Iterable[Iterable[ev.StoredEvent]]) -> tuple[Message, ...]:
    """The settled messages of finished runs, one run after another."""
    messages: list[Message] = []
    for events in runs:
        run = Conversation()
        for stored in events:
            run.apply(ev.decode(stored), stored.private)
        messages.extend(run.settled())
    return tuple(messages)


_decode_native = msgspec.json.Decoder(Native).decode


def _message(seen: ev.VisibleMessage, private: bytes | None) -> Message:
    return Message(
        id=seen.id,
        role="assistant",
        content=seen.content,
        tool_calls=seen.tool_calls,
        stop=seen.stop,  # type: ignore[arg-type]  # a stop of the future is passed through
        native=_decode_native(private) if private else None,
    )
