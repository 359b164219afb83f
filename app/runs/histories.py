"""The messages that a session's next turn begins with.

What earlier turns said never changes, so the end of one turn is kept in memory for the next: only a turn that follows one
of another process, or of long ago, is read from the journal and folded.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from app.domain.events import ContextCompacted
from app.domain.fold import RunState, conversation, placeholders, summed_up
from app.domain.messages import Message
from app.domain.sessions import SessionStore
from app.domain.stores import Owned
from app.runs.patience import patiently

MOST_CHARACTERS = 20_000_000
"""How much is kept, of the sessions used last."""
PER_MESSAGE = 500
"""What a message weighs beside its text."""

Key = tuple[str, str, int]


class History(msgspec.Struct, frozen=True):
    """The settled messages of a session, and what the model reads in the place of the first ones.

    `placeholders` are the session's values by placeholder; `hidden` are messages as models read them, as far as that is known.
    """

    messages: tuple[Message, ...] = ()
    compacted: ContextCompacted | None = None
    placeholders: dict[str, str] = {}
    hidden: dict[tuple[str, str], Message] = {}


class Kept(msgspec.Struct, frozen=True):
    """The history at the end of a turn."""

    turn: int
    history: History
    size: int


class Histories:
    """Histories by session; what is kept is bounded and can always be read again."""

    def __init__(self, *, store: SessionStore, most: int = MOST_CHARACTERS) -> None:
        self._store = store
        self._most = most
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._size = 0

    async def before(self, run: Owned) -> History:
        """The turns before that run, since the session's last reset. Waits while the database is away."""
        if run.turn == 1:
            return History()
        kept = self._take(_key(run))
        if kept is not None and kept.turn == run.turn - 1 and run.resumed_from is None:
            return kept.history
        base, runs = await patiently(
            lambda: self._store.history(run.tenant, run.session_id, run.session_epoch, run.turn)
        )
        named = base.placeholders | placeholders(runs)
        return History((*base.messages, *conversation(runs)), summed_up(runs), named)

    def keep(self, run: Owned, state: RunState) -> None:
        """That run has ended, and its end is stored: the next turn of its session begins with this."""
        messages = (*state.history, *state.settled())
        hidden = {key: state.hidden[key] for m in messages if (key := (m.id, m.content)) in state.hidden}
        history = History(messages, state.compacted, dict(state.placeholders.values), hidden)
        kept = Kept(run.turn, history, sum(map(_size, messages)) * (2 if hidden else 1))
        self._take(_key(run))
        self._kept[_key(run)] = kept
        self._size += kept.size
        while self._size > self._most:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size

    def _take(self, key: Key) -> Kept | None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size
        return kept


def _size(message: Message) -> int:
    texts = len(message.content) + len(message.context or "") + sum(len(call.arguments) for call in message.tool_calls)
    return PER_MESSAGE + texts + (len(bytes(message.native.items)) if message.native is not None else 0)


def _key(run: Owned) -> Key:
    return run.tenant, run.session_id, run.session_epoch
