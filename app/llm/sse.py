"""Server-sent events out of bytes, without I/O: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

from typing import NamedTuple

from app.domain.errors import ProviderError

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame. The largest honest ones hold a whole answer with its encrypted reasoning."""

_BOM = b"\xef\xbb\xbf"


class Frame(NamedTuple):
    """One event: its name ("" where none was sent) and its data, still encoded. Comments, ids, retries and frames without data are left out."""

    event: str
    data: bytes


class Decoder:
    """Turns pieces of a stream, cut anywhere, into frames. Lines end at LF, CR or CRLF and nowhere else."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._after_cr = False
        self._started = False

    def feed(self, piece: bytes) -> list[Frame]:
        """Every frame that `piece` completes, in order. Raises ProviderError (`stream_broken`) for a frame above MAX_FRAME."""
        buffer = self._buffer
        if b"\r" in piece or self._after_cr:
            piece = self._with_lf(piece)
        buffer += piece
        end = buffer.rfind(b"\n\n", self._searched)
        if end < 0:
            self._searched = max(0, len(buffer) - 1)
            if len(buffer) > MAX_FRAME:
                raise ProviderError("stream_broken", f"a frame of the stream is larger than {MAX_FRAME} bytes")
            return []
        whole = bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = 0
        return self._frames(whole)

    def end(self) -> list[Frame]:
        """The frame that the stream's end completes: some servers forget the last empty line."""
        whole = bytes(self._buffer)
        self._buffer.clear()
        return self._frames(whole)

    def _with_lf(self, piece: bytes) -> bytes:
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _frames(self, whole: bytes) -> list[Frame]:
        if not self._started:
            self._started = True
            whole = whole.removeprefix(_BOM)
        frames = []
        for block in whole.split(b"\n\n"):
            frame = _frame(block)
            if frame is not None:
                frames.append(frame)
        return frames


def _frame(block: bytes) -> Frame | None:
    event = ""
    data: bytes | None = None
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            data = value if data is None else data + b"\n" + value
        elif line.startswith(b"event:"):
            event = line[6:].strip().decode("utf-8", "replace")
        elif line == b"data":
            data = b"" if data is None else data + b"\n"
    return Frame(event, data) if data else None
