"""Pages: how long they are, and their cursors: where the last one ended, in a form that nobody needs to understand."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar.params import QueryParameter

from app.domain.errors import RequestError

Limit = Annotated[int, QueryParameter(ge=1, le=200, description="How many at most.")]
PageCursor = Annotated[str | None, QueryParameter(name="cursor", description="`next_cursor` of the page before.")]
Position = tuple[datetime, str]
_decode = msgspec.json.Decoder(Position).decode
_decode_number = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]).decode


def cursor_after(at: datetime, last_id: str) -> str:
    """The cursor of a page that ended there."""
    return base64.urlsafe_b64encode(msgspec.json.encode((at, last_id))).decode().rstrip("=")


def position(cursor: str | None) -> Position | None:
    """Where that cursor points. Raises `RequestError` invalid_cursor."""
    if cursor is None:
        return None
    try:
        at, last_id = _decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise RequestError("invalid_cursor", "The cursor is not one of this service; begin without one.") from None
    if at.tzinfo != UTC or "\x00" in last_id:
        raise RequestError("invalid_cursor", "The cursor is not one of this service; begin without one.")
    return at, last_id


def cursor_below(last: int) -> str:
    """The cursor of a page that ended with that number."""
    return base64.urlsafe_b64encode(msgspec.json.encode(last)).decode().rstrip("=")


def number(cursor: str | None) -> int | None:
    """The number that a page ended with. Raises `RequestError` invalid_cursor."""
    if cursor is None:
        return None
    try:
        last: int = _decode_number(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise RequestError("invalid_cursor", "The cursor is not one of this service; begin without one.") from None
    return last


def no_nul(*given: str | None) -> None:
    """Raises `RequestError` validation_error where a query parameter holds what no text may have."""
    if any("\x00" in text for text in given if text is not None):
        raise RequestError("validation_error", "A query parameter holds a NUL character, which no text may have.")
