"""What of a conversation is sent, under a budget of tokens. The stored history is never changed.

Turns before the current one are left out whole, the oldest first, so that no call loses its result; long results of tools are
shortened to head and tail. All of it follows from replaying the conversation message by message: a message that is added
never changes what was decided before it. The cut moves only when the budget is exceeded, and then so far that a quarter of the
budget is free: the beginning of the requests stays the same for many calls, as prefix caches need.

A turn before the current one begins with any user's message, also with one that came on the way of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from app.agent import tokens
from app.domain.messages import Message

KEEP = 0.75
"""The part of the budget that is filled after the cut has moved."""
ROUNDS = 4
"""So many of the current turn's last rounds of calls, up to twice as many, keep their results whole."""
CURRENT = 4
"""A result of the current turn's older rounds may be this many times as long as one of an older turn."""
LEVELS = 4
"""How often the results of a turn that does not fit are shortened further, each time to a quarter."""
LEAST = 200
"""Characters that are kept of a result in any case."""
SLACK = 100
"""Characters by which a result must exceed its limit before it is shortened: more than the marker has."""
MARKER = 30
"""Tokens of a note that earlier turns were left out."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to the model. `tokens`: estimate of the request; `left_out`: of what it would have more, were it whole.

    `cut`: how many messages are left out of the beginning. The note that says so is still to be added (`noted`).
    """

    messages: tuple[Message, ...]
    tokens: int
    left_out: int
    cut: int = 0


def trim(
    history: Sequence[Message],
    current: Sequence[Message],
    *,
    fixed: int,
    budget: int,
    tool_result: int,
    note: int = MARKER,
) -> Sent | None:
    """What to send of the turns before (`history`) and of the `current` turn, which begins with its user's message and is
    always sent, shortened results aside. None: everything, as it is.

    `fixed`: tokens that the request has beside its messages; `budget`: tokens of the whole request; `tool_result`: characters
    that are kept of a long result of an older turn; `note`: tokens of what will be said in the place of what is left out. The request may exceed the budget: only where the current turn alone does.
    """
    if _small(history, current, budget - fixed, tool_result):
        return None
    replay = _Replay(len(history), fixed, budget, tool_result, note)
    for message in chain(history, current):
        replay.take(message)
    return replay.sent()


def noted(messages: tuple[Message, ...], note: str) -> tuple[Message, ...]:
    """The messages, with a note before the first one."""
    first = messages[0]
    if first.role == "user":
        return (msgspec.structs.replace(first, content=f"{note}\n\n{first.content}"), *messages[1:])
    return (Message(id=f"cut-{first.id}", role="user", content=note), *messages)


def shortened(text: str, limit: int) -> str:
    """Head and tail of a text that is clearly longer than `limit` characters, and how many are left out between them."""
    if len(text) <= limit + SLACK:
        return text
    tail = limit // 3
    head = limit - tail
    return f"{text[:head]}\n[... {len(text) - limit} characters left out ...]\n{text[len(text) - tail :]}"


def _small(history: Sequence[Message], current: Sequence[Message], room: int, tool_result: int) -> bool:
    """Whether nothing can be left out, by lengths alone: what most conversations cost."""
    most = tool_result + SLACK
    length = 0
    for message in chain(history, current):
        size = len(message.content)
        if size > most and message.role == "tool":
            return False
        length += size + (tokens.PER_MARK if message.trust == "untrusted" else 0)
        if message.tool_calls:
            length += sum(len(call.name) + len(call.arguments) + tokens.PER_CALL for call in message.tool_calls)
        if message.context is not None:
            length += len(message.context) + tokens.PER_MESSAGE
        if message.native is not None:
            length += len(bytes(message.native.items))
    per_message = tokens.PER_MESSAGE + tokens.PER_CALL + 1
    return length * tokens.MOST_PER_CHARACTER + (len(history) + len(current)) * per_message <= room


class _Replay:
    """The conversation so far, message by message. `_kept` is the estimate of all messages from the cut on, as they are sent."""

    def __init__(self, current: int, fixed: int, budget: int, tool_result: int, note: int) -> None:
        self._current = current
        self._fixed = fixed
        self._budget = budget
        self._tool_result = tool_result
        self._marker = note
        self._messages: list[Message] = []
        self._sizes: list[int] = []
        self._short: dict[int, Message] = {}
        self._starts: list[int] = []
        self._cut = 0
        self._next = 0
        self._whole = 0
        self._kept = 0
        self._before = 0
        self._open: set[str] = set()
        self._rounds: list[list[int]] = []
        self._level = 0

    def take(self, message: Message) -> None:
        """The next message. What is sent after it is decided."""
        at = len(self._messages)
        if at == self._current or (at < self._current and message.role == "user" and not self._open):
            self._begin(at)
        size = tokens.message(message)
        self._messages.append(message)
        self._sizes.append(size)
        self._whole += size
        self._kept += size
        if message.role == "assistant":
            self._open = {call.id for call in message.tool_calls}
            if message.tool_calls:
                self._round()
        elif message.role == "tool":
            self._open.discard(message.call_id or "")
            if not self._rounds:
                self._rounds.append([])
            self._rounds[-1].append(at)
            if self._level:
                self._shorten(at, self._limit())
        if message.role != "assistant":
            self._fit()

    def sent(self) -> Sent:
        """What goes to the model now."""
        kept = tuple(self._short.get(at, message) for at, message in enumerate(self._messages) if at >= self._cut)
        estimate = self._kept + self._note()
        return Sent(
            messages=kept, tokens=self._fixed + estimate, left_out=max(0, self._whole - estimate), cut=self._cut
        )

    def _begin(self, at: int) -> None:
        """A turn begins: the results of the one before are old."""
        limit = self._tool_result if self._level == 0 else self._limit()
        for results in self._rounds:
            for result in results:
                self._shorten(result, limit)
        self._starts.append(at)
        self._rounds = []
        self._level = 0
        self._open = set()
        self._before = self._kept

    def _round(self) -> None:
        """Another round of calls. At every fourth, results of the older ones are shortened if they are very long."""
        self._rounds.append([])
        rounds = len(self._rounds) - 1
        if rounds % ROUNDS == 0:
            for results in self._rounds[: rounds - ROUNDS] if rounds > ROUNDS else ():
                for result in results:
                    self._shorten(result, CURRENT * self._tool_result)

    def _fit(self) -> None:
        """Shorten the current turn where it alone is too much; then leave out turns before it."""
        note = self._marker if self._starts and self._starts[-1] else 0
        while self._level < LEVELS and self._fixed + note + self._kept - self._before > self._budget:
            self._level += 1
            for results in self._rounds:
                for result in results:
                    self._shorten(result, self._limit())
        if self._fixed + self._kept + self._note() <= self._budget:
            return
        while self._next < len(self._starts) and self._fixed + self._kept + self._marker > KEEP * self._budget:
            start = self._starts[self._next]
            left_out = sum(self._sizes[self._cut : start])
            self._kept -= left_out
            self._before -= left_out
            self._cut = start
            self._next += 1

    def _shorten(self, at: int, limit: int) -> None:
        """That result to at most so many characters; one that is shorter already stays."""
        message = self._messages[at]
        if len(message.content) <= limit + SLACK or (
            at in self._short and len(self._short[at].content) <= limit + SLACK
        ):
            return
        self._short[at] = msgspec.structs.replace(message, content=shortened(message.content, limit))
        size = tokens.message(self._short[at])
        if at >= self._cut:
            self._kept += size - self._sizes[at]
        self._sizes[at] = size

    def _limit(self) -> int:
        """Characters of a result in a turn that did not fit."""
        return max(LEAST, int(self._tool_result // 4 ** (self._level - 1)))

    def _note(self) -> int:
        return self._marker if self._cut else 0
