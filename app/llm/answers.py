"""What every API's stream becomes: the text collected so far, and JSON read with the vendors' faults in mind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from app.domain.errors import ProviderError
from app.domain.messages import Api, ModelStop, Native, ToolCall, Usage
from app.domain.models import Attempt, Completed, ReasoningDelta, TextDelta
from app.domain.text import clean
from app.domain.tokens import prose

MAX_ANSWER = 16 * 1024 * 1024
"""Characters of one streamed answer: text, reasoning, and what is kept besides them, such as the arguments of calls."""

T = TypeVar("T")
_ANY = msgspec.json.Decoder()


class EventType(msgspec.Struct, frozen=True):
    """The one field that every vendor's event has."""

    type: str = ""


_TYPE = msgspec.json.Decoder(EventType)


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """`data` as the decoder's type. Raises ProviderError (`stream_broken`) for anything else.

    A lone surrogate, which the decoder refuses, is let through: `clean` replaces it.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return msgspec.convert(json.loads(data), decoder.type)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            raise ProviderError("stream_broken", f"a frame cannot be read: {error}", status=200) from error


def event_type(data: bytes, name: str) -> str:
    """The `type` of an event, or where it has none the name of its frame."""
    return decode(_TYPE, data).type or name


def arguments(call: ToolCall) -> dict[str, Any]:
    """The call's arguments as an object; what is none rides along as `{"invalid_json": text}`, so that any API takes it back."""
    if not call.arguments.strip():
        return {}
    try:
        value = _ANY.decode(call.arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"invalid_json": call.arguments}


def arguments_text(call: ToolCall) -> str:
    """The call's arguments as JSON text of an object: the model's own where they are one."""
    value = arguments(call)
    return msgspec.json.encode(value).decode() if not value or "invalid_json" in value else call.arguments


class Answer:
    """One answer as it grows. Text that arrives between two `take` calls becomes one delta; the deltas spell `content`.

    Raises ProviderError (`stream_broken`) as soon as it is larger than MAX_ANSWER.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._pending: list[tuple[Literal["text", "reasoning"], str]] = []
        self._content: list[str] = []
        self._progress = False
        self._hidden = 0
        self._size = 0

    def text(self, piece: str | None) -> None:
        """More of the answer."""
        if piece:
            self._grow(len(piece))
            self._pending.append(("text", piece))

    def reasoning(self, piece: str | None) -> None:
        """More of the readable reasoning."""
        if piece:
            self._grow(len(piece))
            self._hidden += len(piece)
            self._pending.append(("reasoning", piece))

    def progress(self, size: int = 0) -> None:
        """The model wrote something that is not shown, such as the arguments of a call; `size` characters of it are kept."""
        self._grow(size)
        self._hidden += size
        self._progress = True

    def take(self) -> list[TextDelta | ReasoningDelta]:
        """What came since the last call; an empty ReasoningDelta stands for progress that shows nothing."""
        if not self._pending:
            if self._progress:
                self._progress = False
                return [ReasoningDelta("")]
            return []
        self._progress = False
        chunks: list[TextDelta | ReasoningDelta] = []
        kind, pieces = self._pending[0][0], [self._pending[0][1]]
        for next_kind, piece in self._pending[1:]:
            if next_kind == kind:
                pieces.append(piece)
            else:
                chunks.append(self._delta(kind, pieces))
                kind, pieces = next_kind, [piece]
        chunks.append(self._delta(kind, pieces))
        self._pending.clear()
        return chunks

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_ANSWER:
            raise ProviderError("stream_broken", f"the answer is larger than {MAX_ANSWER} characters", status=200)

    def _delta(self, kind: Literal["text", "reasoning"], pieces: list[str]) -> TextDelta | ReasoningDelta:
        text = clean("".join(pieces))
        if kind == "reasoning":
            return ReasoningDelta(text)
        self._content.append(text)
        return TextDelta(text)

    @property
    def content(self) -> str:
        """All text that was taken."""
        return "".join(self._content)

    @property
    def written(self) -> int:
        """Tokens that the model has written so far, by an estimate: of its text, and of its reasoning and its calls as far as they came."""
        text = self.content + "".join(piece for kind, piece in self._pending if kind == "text")
        return prose(text) + -(-self._hidden // 4)

    def seen(self, *, model: str | None = None, id: str | None = None) -> None:
        """The provider named its model and its answer's id."""
        if model:
            self.attempt.response_model = clean(model)
        if id:
            self.attempt.response_id = clean(id)

    def used(self, usage: Usage, *, last: bool, tier: str | None = None, speed: str | None = None) -> None:
        """The provider counted the tokens so far; `last`: this is what it charges for, by that service tier and speed."""
        self.attempt.usage = usage
        self.attempt.basis = "provider" if last else "estimated"
        self.attempt.service_tier, self.attempt.speed = clean(tier or ""), clean(speed or "")

    def completed(self, stop: ModelStop, calls: Sequence[ToolCall], native: Native | None) -> Completed:
        """The whole answer, `take` having been called. Whether there are calls overrules what the provider said of them."""
        if stop == "stop" and calls:
            stop = "tool_calls"
        elif stop == "tool_calls" and not calls:
            stop = "stop"
        self.attempt.finish = stop
        return Completed(
            content=self.content,
            tool_calls=tuple(calls),
            stop=stop,
            native=None if stop in ("refusal", "content_filter") else native,
            usage=self.attempt.usage,
            response_model=self.attempt.response_model,
            response_id=self.attempt.response_id,
        )


def tool_call(id: str, name: str, text: str) -> ToolCall:
    """A call as the model wrote it; no arguments at all are an empty object."""
    return ToolCall(id=clean(id), name=clean(name), arguments=clean(text) or "{}")


def native(api: Api, items: Sequence[Any]) -> Native:
    """Items that go back to `api` as they came."""
    try:
        encoded = msgspec.json.encode(items)
    except UnicodeEncodeError:
        encoded = clean(json.dumps(items, ensure_ascii=False)).encode()
    return Native(api=api, items=msgspec.Raw(encoded))
