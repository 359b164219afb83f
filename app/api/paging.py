"""Cursors of pages: where the last page ended, in a form that nobody needs to understand."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import msgspec

from app.domain.errors import RequestError

Position = tuple[datetime, str]
_decode = msgspec.json.Decoder(Position).decode


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
