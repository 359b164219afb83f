"""Prefix caching: vendors read a prefix from their cache only where it is, to the byte, what they were sent before.

The writers see to it that it is; here is the check that what they are given lets them. A system prompt with a clock in it, or tools in
another order, cost a multiple of what they should, and no vendor says so.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence

import msgspec

from app.domain.messages import Message
from app.domain.models import Attempt, ModelChunk, ModelRequest, Target

log = logging.getLogger(__name__)

MAX_SESSIONS = 2_000
"""Prefixes that are remembered."""

MAX_BYTES = 16 * 1024 * 1024
"""Their size together, about: the longest unused are forgotten first."""

OVERHEAD = 500
"""Bytes, about, that a remembered message takes beside its texts."""

READ = ("context", "content", "tool_calls", "native", "call_id", "is_error")
"""The fields of a message that models read."""


def cache_key(affinity: str) -> str:
    """A session's `prompt_cache_key`: always the same, and not its id. OpenAI sends requests that share it to the same machine's cache."""
    return hashlib.sha256(affinity.encode(errors="replace")).hexdigest()[:32]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Where a prefix is no longer what it was: in `tools`, `system`, or `messages[n].field`; `offset` is the first byte that differs in it."""

    part: str
    offset: int


class _Seen(msgspec.Struct):
    """What the last request began with; `texts` is the size of its messages. `reported`: a change was told, and nothing else is kept."""

    tools: bytes
    system: str
    messages: tuple[Message, ...]
    trimmed: int
    texts: int
    reported: bool = False

    @property
    def size(self) -> int:
        return len(self.tools) + len(self.system) + self.texts


class Prefixes:
    """The prefix of each session's last request to each target. One event loop, no I/O."""

    def __init__(
        self, *, author: Callable[[], Hashable], max_sessions: int = MAX_SESSIONS, max_bytes: int = MAX_BYTES
    ) -> None:
        """`author` says who writes the prefixes of the current task: an agent in one version. Another one's are others."""
        self._author = author
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()
        self._size = 0

    def check(self, request: ModelRequest, target: str) -> Change | None:
        """What changed since the session's last request to `target`, once for each session; afterwards this one is the last.

        Tools and system must not change. A message that is still there must not either, unless more or less was trimmed than before; a
        history that is shorter, or that has another message in its place (reset, cut, summed up), is not a change.
        """
        if not request.affinity:
            return None
        key = (request.affinity, request.route, target, self._author())
        seen = self._seen.pop(key, None)
        self._size -= 0 if seen is None else seen.size
        if seen is not None and seen.reported:
            self._seen[key] = seen
            return None
        tools, known = msgspec.json.encode(request.tools), 0
        change = None
        if seen is not None:
            if request.messages[: len(seen.messages)] == seen.messages:
                known = len(seen.messages)
            change = _change(seen, tools, request, known)
        if change is None:
            texts = _size(request.messages[known:]) + (seen.texts if seen is not None and known else 0)
            now = _Seen(tools, request.system, request.messages, request.trimmed_tokens, texts)
        else:
            now = _Seen(b"", "", (), 0, 0, reported=True)
        self._seen[key] = now
        self._size += now.size
        while len(self._seen) > self._max_sessions or self._size > self._max_bytes:
            self._size -= self._seen.popitem(last=False)[1].size
        return change


class WatchedTarget:
    """A Target whose sessions' prefixes are checked: one that changes is a warning in the log, without its content."""

    def __init__(self, *, target: Target, prefixes: Prefixes) -> None:
        self.provider = target.provider
        self.system = target.system
        self.model = target.model
        self._target = target
        self._prefixes = prefixes
        self._name = f"{target.provider}/{target.model}"

    def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        """The target's own chunks."""
        change = self._prefixes.check(request, self._name)
        if change is not None:
            said = {"route": request.route, "model": self._name, "part": change.part, "offset": change.offset}
            log.warning("prompt_prefix_changed", extra=said)
        return self._target.stream(request, attempt)


def _change(seen: _Seen, tools: bytes, request: ModelRequest, known: int) -> Change | None:
    """`known` messages are all that were there, unchanged; 0: there are others, or fewer."""
    if seen.tools != tools:
        return Change(part="tools", offset=_differs(seen.tools, tools))
    if seen.system != request.system:
        return Change(part="system", offset=_differs(_bytes(seen.system), _bytes(request.system)))
    if known or seen.trimmed != request.trimmed_tokens:
        return None
    for number, (was, now) in enumerate(zip(seen.messages, request.messages, strict=False)):
        if was.id != now.id:
            return None
        for field in READ:
            old, new = getattr(was, field), getattr(now, field)
            if old != new:
                return Change(part=f"messages[{number}].{field}", offset=_differs(_bytes(old), _bytes(new)))
    return None


def _size(messages: Sequence[Message]) -> int:
    size = OVERHEAD * len(messages)
    for message in messages:
        size += len(message.content)
        if message.context is not None:
            size += len(message.context)
        if message.native is not None:
            size += len(memoryview(message.native.items))
        for call in message.tool_calls:
            size += OVERHEAD + len(call.arguments)
    return size


def _bytes(value: object) -> bytes:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else msgspec.json.encode(value)


def _differs(a: bytes, b: bytes) -> int:
    """Where the first byte differs, or the shorter one ends."""
    same, end = 0, min(len(a), len(b))
    while same < end:
        middle = (same + end + 1) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            end = middle - 1
    return same
