"""The conversation as every vendor accepts it: whole tool rounds, no empty messages, ids that fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import msgspec

from app.domain.messages import Api, Message

_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")

NO_RESULT = "This call was interrupted; it has no result."


class User(msgspec.Struct, frozen=True):
    """What a user said."""

    text: str


class Result(msgspec.Struct, frozen=True):
    """The outcome of one call, for the model to read."""

    call_id: str
    text: str
    is_error: bool


class Assistant(msgspec.Struct, frozen=True):
    """What a model said, and the result of each of its calls, in the calls' order."""

    message: Message
    results: tuple[Result, ...]


def user_text(message: Message) -> str:
    """`<context>` + the caller's JSON + `</context>`, an empty line, and the message; the message alone where there is no context."""
    if message.context is None:
        return message.content
    return f"<context>\n{message.context}\n</context>\n\n{message.content}"


def turns(messages: Sequence[Message], api: Api) -> Iterator[User | Assistant]:
    """The conversation for `api`, in order. The same messages give the same turns.

    Every call has exactly one result: results are moved up to their call, a missing one says so, one without a call is
    left out. An assistant message with neither text nor calls nor items of this API is left out.
    """
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message.role == "user":
            yield User(user_text(message))
        elif message.role == "assistant":
            if not message.content.strip() and not message.tool_calls and own_items(message, api) is None:
                continue
            answers: dict[str, Message] = {}
            for later in messages[at:] if message.tool_calls else ():
                if later.role == "assistant":
                    break
                if later.role == "tool" and later.call_id is not None:
                    answers.setdefault(later.call_id, later)
            yield Assistant(message, tuple(_result(call.id, answers.get(call.id)) for call in message.tool_calls))


def own_items(message: Message, api: Api) -> msgspec.Raw | None:
    """The items that the message goes back as: a JSON array that this very API sent. None: the normal form goes."""
    return message.native.items if message.native is not None and message.native.api == api else None


def _result(call_id: str, message: Message | None) -> Result:
    if message is None:
        return Result(call_id, NO_RESULT, True)
    return Result(call_id, message.content, message.is_error)


def wire_id(call_id: str) -> str:
    """`call_id` where every vendor takes it, else a stable stand-in: other servers' ids are too long or hold other characters."""
    if _ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:24]
