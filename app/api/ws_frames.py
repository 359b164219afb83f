"""The frames of `/ws`: JSON objects told apart by their `type`, commands in, events and errors out."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.api.aside import INLINE
from app.api.bodies import AgentName, Busy, Context, MessageText, Reason, Seconds, SessionId, Tags, UserId
from app.api.decoding import decode_body
from app.api.schemas import Problem
from app.domain.errors import RequestError
from app.domain.idempotency import IdempotencyKey

Ref = Annotated[
    str, Meta(max_length=128, description="The client's own name for a command; what answers it has it too.")
]

VISIBLE = re.compile(r"[\x21-\x7e]+")


class _Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    ref: Ref | None = None


class Auth(_Command, frozen=True, kw_only=True, tag="auth"):
    """Who the client is; the first frame."""

    token: str


class StartTurn(_Command, frozen=True, kw_only=True, tag="run"):
    """Begin a run and follow it. `input` is any JSON, `message` the text of one turn: one of them."""

    input: Any = msgspec.UNSET
    message: MessageText | msgspec.UnsetType = msgspec.UNSET
    agent: AgentName | None = None
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    on_busy: Busy = "enqueue"
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | None = None

    def __post_init__(self) -> None:
        if (self.message is msgspec.UNSET) == (self.input is msgspec.UNSET):
            raise ValueError("must have either `input` or `message`")
        if self.idempotency_key is not None and not VISIBLE.fullmatch(self.idempotency_key):
            raise ValueError("`idempotency_key` must be visible ASCII characters")

    def key(self) -> IdempotencyKey | None:
        """The command's key, where it has one."""
        if self.idempotency_key is None:
            return None
        content = msgspec.json.encode(msgspec.structs.replace(self, ref=None), order="deterministic")
        digest = hashlib.sha256(content).hexdigest()
        return IdempotencyKey(method="RUN", path="/ws", key=self.idempotency_key, fingerprint=digest)


class Subscribe(_Command, frozen=True, kw_only=True, tag="subscribe"):
    """Follow a run from its event `after` on (None: from its first). A second one for a run takes the first one's place."""

    run_id: str
    after: str | int | None = None


class Unsubscribe(_Command, frozen=True, kw_only=True, tag="unsubscribe"):
    """Follow that run no longer; it goes on."""

    run_id: str


class Cancel(_Command, frozen=True, kw_only=True, tag="cancel"):
    """Stop a run."""

    run_id: str
    reason: Reason | None = None


class Ping(_Command, frozen=True, kw_only=True, tag="ping"):
    """Is anybody there?"""


class Pong(_Command, frozen=True, kw_only=True, tag="pong"):
    """The answer to a ping of ours; none is needed."""


Command = Auth | StartTurn | Subscribe | Unsubscribe | Cancel | Ping | Pong


class EventFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="event", omit_defaults=True):
    """An event of a run, under the log's names. `id` null: of text that is not replayed."""

    run_id: str
    event: str
    id: str | None
    data: msgspec.Raw
    ref: str | None = None


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ack", omit_defaults=True):
    """The command of that `ref` was done. `replayed`: its run is an earlier command's."""

    ref: str
    run_id: str | None = None
    session_id: str | None = None
    replayed: bool = False


class ErrorFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error", omit_defaults=True):
    """A command was refused, or a run cannot be followed any more."""

    problem: Problem
    ref: str | None = None
    run_id: str | None = None


class PingFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ping"):
    """Nothing else was said for a while."""


class PongFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pong", omit_defaults=True):
    """The answer to a ping."""

    ref: str | None = None


Frame = EventFrame | Ack | ErrorFrame | PingFrame | PongFrame


class _Named(msgspec.Struct, frozen=True):
    ref: Ref | None = None


def read(frame: bytes) -> tuple[Command, IdempotencyKey | None]:
    """The command of a frame, and its key where it has one. Raises `RequestError` as a request's body does."""
    command: Command = decode_body(frame, Command, "The frame")
    return command, command.key() if isinstance(command, StartTurn) else None


def read_auth(frame: bytes) -> Auth | None:
    """The `auth` of a frame; None: it is of another type, and nothing of it is made. Raises `RequestError` as a request's body does."""
    try:
        auth: Auth = decode_body(frame, Auth, "The frame")
    except RequestError as error:
        if any(wrong.path == "type" for wrong in error.errors):
            return None
        raise
    return auth


def ref_of(frame: bytes) -> str | None:
    """The `ref` of a frame that is no command, as far as it can be told at once."""
    if len(frame) > INLINE:
        return None
    try:
        return decode_ref(frame).ref
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


decode_ref = msgspec.json.Decoder(_Named).decode
