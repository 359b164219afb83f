"""From events back to a conversation. Pure: the same events give the same state, in the runner, after a restart and in history."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.approvals import Decision, PendingApproval
from app.domain.messages import Message, Native, ToolCall, Usage
from app.domain.provenance import Taint, parts, taint, worse
from app.domain.screening import Placeholders
from app.domain.tiers import TierDecision
from app.domain.tools import result_text

MIN_OUTPUT = 16
"""Tokens below which a model is not asked: OpenAI takes no smaller bound for an answer, and little could be said."""
UNFINISHED = "The run ended before this call finished; whether it took effect is not known."
UNSEEN = (
    "The process that ran this call died before its end was seen: it may have taken effect. "
    "It was not repeated. Find out before you call it again, or tell the user."
)
EDITED = "[A person changed the arguments to {} before this ran.]\n"


class Conversation:
    """The messages of one run, in order, grown event by event.

    `open_calls` are the calls of the last assistant message that have no result yet; `rejected` are the ids of messages
    that do not count (`message.reset`); `edited` are the arguments that a person gave in the place of the model's, by call.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.open_calls: dict[str, ToolCall] = {}
        self.rejected: set[str] = set()
        self.edited: dict[str, str] = {}

    def apply(self, event: ev.Event | None, private: bytes | None = None) -> None:
        """Take one event in; None is one that this release does not know. `private` is what the journal keeps beside it."""
        if isinstance(event, ev.MessageCompleted):
            if event.message.role == "user":
                self.messages.append(Message(id=event.message.id, role="user", content=event.message.content))
            else:
                self.add(_message(event.message, private))
        elif isinstance(event, ev.ToolFinished):
            self.open_calls.pop(event.call_id, None)
            text = result_text(event.result)
            if event.call_id in self.edited:
                text = EDITED.format(self.edited[event.call_id]) + text
            message = tool_message(event.call_id, event.name, text, event.status != "ok")
            self.messages.append(msgspec.structs.replace(message, **labels(event)))
        elif isinstance(event, ev.ApprovalResolved):
            if event.arguments is not None:
                self.edited[event.call_id] = event.arguments
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
        kept: list[Message] = []
        for message in self.messages:
            if message.id not in self.rejected:
                kept.append(message)
                kept += [
                    tool_message(call.id, call.name, UNFINISHED, True)
                    for call in message.tool_calls
                    if call.id in self.open_calls
                ]
        return kept


class RunState(Conversation):
    """One run as `decide` sees it: its agent, the session's messages before it, its own, and what it has used."""

    def __init__(
        self, *, agent: Agent, system: str, history: tuple[Message, ...], compacted: ev.ContextCompacted | None = None
    ) -> None:
        super().__init__()
        self.agent = agent
        self.system = system
        # What the model reads. `compacted`: in the place of the session's first messages; `tried`: the last message up to which no
        # summary could be written. `hidden`: messages with placeholders, by id and content (ids of calls are the provider's, and may
        # come again in another turn). `marked`: a message from outside, by id, and how its model is shown that. `watched`: its
        # rounds as far as they were looked at (`app.agent.loops`), never stored.
        self.history = history
        self.compacted = compacted
        self.tried: str | None = None
        self.placeholders = Placeholders()
        self.hidden: dict[tuple[str, str], Message] = {}
        self.marked: dict[str, tuple[Message, Message]] = {}
        self.watched: Any = None
        self._before: tuple[tuple[Message, ...], Taint] | None = None
        # Its calls, by id. `started`: open ones whose intent is written; `refused`: denied ones; `approvals`: open requests;
        # `decisions`: what became of the others; `digests`, `bound`: what was asked, and what was decided about. `granted`: the
        # scopes of its caller that tools ask for.
        self.call_ids: set[str] = set()
        self.started: set[str] = set()
        self.refused: set[str] = set()
        self.approvals: dict[str, PendingApproval] = {}
        self.decisions: dict[str, Decision] = {}
        self.digests: dict[str, str] = {}
        self.bound: dict[str, str] = {}
        self.granted: frozenset[str] = frozenset()
        self.outcome_unknown = False
        # Where it is. `closed`: the model was asked for the last time, why; `loop`: it is to be, since the run goes round in circles;
        # `steered`: ids of the user messages that came on the way; `executed`: seconds in earlier attempts (`restore` counts them).
        self.iterations = 0
        self.closed: Literal["max_iterations", "token_budget", "cost_budget"] | None = None
        self.loop: ev.LoopDetected | None = None
        self.steered: set[str] = set()
        self.executed = 0.0
        # What it used. `tokens`: of all its calls, in and out, as far as it is known. `first_tier` was decided with the question, `tier`
        # holds now; None: nothing is decided yet, or the agent's route has no tiers.
        self.usage: Usage | None = None
        self.model: str | None = None
        self.tokens = 0
        self.first_tier: TierDecision | None = None
        self.tier: TierDecision | None = None
        self._spent: Decimal | None = None
        self._unpriced = False
        self._last_tokens = 0
        self._last_cost = Decimal(0)

    def apply(self, event: ev.Event | None, private: bytes | None = None) -> None:
        """Take one event in."""
        super().apply(event, private)
        if isinstance(event, ev.UsageRecorded):
            self.record(event)
        elif isinstance(event, ev.ContextCompacted):
            if event.summary is None:
                self.tried = event.upto
            else:
                self.compacted = event
        elif isinstance(event, ev.ContextRedacted):
            self.placeholders.learn(named(private))
        elif isinstance(event, ev.ToolStarted):
            self.started.add(event.call_id)
        elif isinstance(event, ev.ToolFinished):
            self.started.discard(event.call_id)
            self.outcome_unknown |= event.status == "outcome_unknown"
            if event.status == "denied":
                self.refused.add(event.call_id)
        elif isinstance(event, ev.ApprovalRequested):
            self.approvals[event.approval.call_id] = event.approval
            self.digests[event.approval.call_id] = event.digest
        elif isinstance(event, ev.ApprovalResolved):
            self.approvals.pop(event.call_id, None)
            self.decisions[event.call_id] = event.decision
            if event.digest is not None:
                self.bound[event.call_id] = event.digest
        elif isinstance(event, ev.LoopDetected):
            self.loop = event
        elif isinstance(event, ev.MessageCompleted) and event.message.role == "user":
            self.steered.add(event.message.id)
            self.loop = None
        elif isinstance(event, ev.RunCreated) and event.granted is not msgspec.UNSET:
            self.granted = frozenset(event.granted)

    def read(self, message: Message) -> Message:
        """That message as models read it."""
        return self.hidden.get((message.id, message.content), message)

    def restore(self, journal: Iterable[ev.StoredEvent]) -> None:
        """Take in what earlier attempts stored, and count how long they executed: from each `run.started` to the last event after it."""
        began: float | None = None
        last = 0.0
        for stored in journal:
            if stored.name in ("run.started", "run.waiting"):
                self.executed += 0.0 if began is None else max(0.0, last - began)
                began = stored.at if stored.name == "run.started" else None
            last = stored.at
            self.apply(ev.decode(stored), stored.private)
        self.executed += 0.0 if began is None else max(0.0, last - began)

    @property
    def taint(self) -> Taint:
        """That of all that its model has read, in earlier turns too, also where it is left out or summed up by now."""
        if self._before is None or self._before[0] is not self.history:
            self._before = self.history, taint(parts(self.history))
        return worse(self._before[1], taint(parts(self.messages)))

    def arguments(self, call: ToolCall) -> str:
        """What that call runs with: a person's arguments where one gave some."""
        return self.edited.get(call.id, call.arguments)

    def add(self, message: Message) -> None:
        """Take in a complete assistant message and count it.

        An answer to a rejected draft is no iteration of its own. A message after the last iteration closes the run, and so does one
        that took what was left of a budget.
        """
        repairs = bool(self.messages) and self.messages[-1].id in self.rejected
        super().add(message)
        self.call_ids.update(self.open_calls)
        if repairs:
            return
        if self.iterations >= self.agent.limits.iterations:
            self.closed = "max_iterations"
        else:
            self.iterations += 1
            self.closed = self.short

    def decided(self, tier: TierDecision) -> None:
        """From now on the run's model calls go to that tier."""
        self.first_tier = self.first_tier or tier
        self.tier = tier

    def record(self, event: ev.UsageRecorded) -> None:
        """Add one attempt to what the run has used and what it cost."""
        if event.tier is not msgspec.UNSET:
            self.decided(event.tier)
        if event.usage is not None:
            self.usage = event.usage if self.usage is None else self.usage + event.usage
        if event.cost_usd is None:
            self._unpriced = True
        else:
            self._spent = (self._spent or Decimal(0)) + Decimal(repr(event.cost_usd))
        tokens = 0 if event.usage is None else (event.usage.input_tokens or 0) + (event.usage.output_tokens or 0)
        self.tokens += tokens
        if event.outcome == "ok" and event.purpose is msgspec.UNSET:
            self.model = event.model
            self._last_tokens = tokens
            self._last_cost = Decimal(0) if event.cost_usd is None else Decimal(repr(event.cost_usd))

    @property
    def cost(self) -> Decimal | None:
        """US dollars of every attempt so far, exact; None before the first, and from the first on whose cost is not known."""
        return None if self._unpriced else self._spent

    @property
    def tokens_left(self) -> int:
        """Tokens that the run may still use; may be negative."""
        return self.agent.limits.most_tokens - self.tokens

    @property
    def dollars_left(self) -> Decimal:
        """Dollars that the run may still cost, by what is known of its cost; may be negative."""
        return Decimal(repr(self.agent.limits.most_usd)) - (self._spent or 0)

    @property
    def used_up(self) -> Literal["token_budget", "cost_budget"] | None:
        """The budget of which nothing is left: no model may be asked."""
        if self.tokens_left < MIN_OUTPUT:
            return "token_budget"
        return "cost_budget" if self.dollars_left <= 0 else None

    @property
    def short(self) -> Literal["token_budget", "cost_budget"] | None:
        """The budget whose rest would not pay for two more calls like the last: the next one is the last, and must answer."""
        if self.tokens_left < 2 * self._last_tokens:
            return "token_budget"
        return "cost_budget" if self.dollars_left < 2 * self._last_cost else None


def user_message(event: ev.RunCreated) -> Message:
    """The user's message that a run begins with. An input that is no string is given to the model as JSON."""
    content = event.input if isinstance(event.input, str) else msgspec.json.encode(event.input).decode()
    return Message(id=event.message_id, role="user", content=content, context=event.preface)


def tool_message(call_id: str, name: str, text: str, is_error: bool) -> Message:
    """The answer to one call, in our own words."""
    return Message(
        id=f"result-{call_id}",
        role="tool",
        content=text,
        call_id=call_id,
        name=name,
        is_error=is_error,
        trust="trusted",
    )


def labels(event: ev.ToolFinished) -> dict[str, Any]:
    """How far the words of that outcome may be followed. Where nothing is said of it, not at all: so are journals of before."""
    return {
        "trust": "untrusted" if event.trust is msgspec.UNSET else event.trust,
        "signals": () if event.signals is msgspec.UNSET else event.signals,
    }


def conversation(runs: Iterable[Iterable[ev.StoredEvent]]) -> tuple[Message, ...]:
    """The settled messages of finished runs, one run after another."""
    messages: list[Message] = []
    for events in runs:
        run = Conversation()
        for stored in events:
            run.apply(ev.decode(stored), stored.private)
        messages.extend(run.settled())
    return tuple(messages)


def summed_up(runs: Iterable[Iterable[ev.StoredEvent]]) -> ev.ContextCompacted | None:
    """The last summary that was written in those runs."""
    last = None
    for stored in (stored for events in runs for stored in events if stored.name == "context.compacted"):
        event = ev.decode(stored)
        if isinstance(event, ev.ContextCompacted) and event.summary is not None:
            last = event
    return last


def placeholders(runs: Iterable[Iterable[ev.StoredEvent]]) -> dict[str, str]:
    """The session's values by placeholder, as those runs gave them out."""
    found: dict[str, str] = {}
    for stored in (stored for events in runs for stored in events if stored.name == "context.redacted"):
        found |= named(stored.private)
    return found


_decode_names = msgspec.json.Decoder(dict[str, str]).decode


def named(private: bytes | None) -> dict[str, str]:
    """What stands beside a `context.redacted`: values by placeholder."""
    return _decode_names(private) if private else {}


_decode_native = msgspec.json.Decoder(Native).decode


def _message(seen: ev.VisibleMessage, private: bytes | None) -> Message:
    return Message(
        id=seen.id,
        role="assistant",
        content=seen.content,
        tool_calls=seen.tool_calls,
        stop=seen.stop,  # type: ignore[arg-type]  # a stop of the future is passed through
        native=_decode_native(private) if private else None,
        trust=seen.trust,
    )
