"""Text that may go anywhere: PostgreSQL refuses NUL, UTF-8 refuses lone surrogates."""

from __future__ import annotations


def clean(text: str) -> str:
    """`text` with NUL and lone surrogates replaced by U+FFFD; the very same object where there is nothing to replace."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
