from __future__ import annotations

import pytest

from app.domain.errors import ProviderError
from app.llm.sse import MAX_FRAME, Decoder, Frame

STREAM = (
    "\ufeffevent: a\ndata: one\n\n"
    ": a comment\n\n"
    "id: 7\nretry: 10\n\n"
    "event: no data\n\n"
    "data:two\ndata\ndata:  three\n\n"
    "event:b\ndata: Größe 😀 \u2028\u2029\x85\x0b\x0c end\n\n\n"
    "data: last\n\n"
)
FRAMES = [
    Frame("a", b"one"),
    Frame("", b"two\n\n three"),
    Frame("b", "Größe 😀 \u2028\u2029\x85\x0b\x0c end".encode()),
    Frame("", b"last"),
]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_every_cut_gives_the_same_frames(ending: str) -> None:
    stream = STREAM.replace("\n", ending).encode()
    for size in range(1, len(stream) + 1):
        decoder = Decoder()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
        assert frames == FRAMES, f"pieces of {size} bytes"


def test_every_two_pieces_give_the_same_frames() -> None:
    stream = STREAM.replace("\n\n", "\r\n\n").encode()
    for at in range(len(stream)):
        decoder = Decoder()
        assert decoder.feed(stream[:at]) + decoder.feed(stream[at:]) + decoder.end() == FRAMES, at


def test_one_feed_gives_all_frames_at_once() -> None:
    assert len(Decoder().feed(b"data: x\n\n" * 1000)) == 1000


def test_the_last_frame_needs_no_empty_line() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: x\n\ndata: [DONE]\n") == [Frame("", b"x")]
    assert decoder.end() == [Frame("", b"[DONE]")]
    assert decoder.end() == []


def test_a_frame_without_end_is_refused() -> None:
    decoder = Decoder()
    assert decoder.feed(b"x" * (MAX_FRAME - 1)) == []
    assert decoder.feed(b"x") == []
    with pytest.raises(ProviderError) as failure:
        decoder.feed(b"x")
    assert failure.value.kind == "stream_broken"
