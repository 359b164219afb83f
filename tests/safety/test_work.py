"""Work and held text of what guards answers, where everything begins and nothing ends."""

from __future__ import annotations

import random
import sys
from types import FrameType

import pytest

from app.domain.screening import Screening
from app.safety.beginnings import BOUNDS, Begin, body_end
from app.safety.guard import Screener
from app.safety.rendering import Rendering
from app.safety.streams import Stream


def out(text: str, size: int | None = None) -> str:
    guard = Screener().guard(Screening(link_hosts=("good.org",)), "")
    assert guard is not None
    size = size or len(text)
    return "".join(guard.push(text[at : at + size]) for at in range(0, len(text), size)) + guard.end()


REPEATS = (
    "](", "![a](b", "=:/(-._A", "is is bearer ", "-----BEGIN PRIVATE KEY-----\n", "-----", "https://<A", "//", "/a//", "eyJ.", "sk-",
    "password=", "src=", "src=\"", "src = ", "href='//e.org ", "url(", "[a]:", "](  ", "   =", "\\n", "<", "![](/", "http://a.b/?q=", "@import",
    "://a:b@", "\n\n![", "AKIA", "token:", "style", "[x](/a)", "|[a](/a)|[b](/b)|",
)  # fmt: skip


def test_any_repeats_come_out_alike_and_bounded() -> None:
    """Held text stays below its bound, and cuts change nothing, also where everything begins and nothing ends."""
    for unit in REPEATS:
        text = unit * (9_000 // len(unit)) + " end"
        guard = Stream(())
        shown = ""
        for at in range(0, len(text), 4):
            shown += guard.push(text[at : at + 4])
            assert len(guard._held) < max(BOUNDS.values())
        shown += guard.end()
        whole = Stream(())
        assert whole.push(text) + whole.end() == shown, unit


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("body", ["a", "(", "()", "(a)"])
def test_a_body_is_read_to_its_bound(kind: str, body: str) -> None:
    """However much comes in one push."""
    for before in ("", "](https:/"):
        first = len(before) + 1
        end = body_end(f"{before}/{body * 20_000}", Begin(kind, max(0, first - 2), first))
        assert end - first <= BOUNDS[kind]


@pytest.mark.long
def test_a_mixture_of_repeats_comes_out_alike() -> None:
    rng = random.Random(8)
    for _ in range(120):
        text = "".join(rng.choice(REPEATS) * rng.choice((1, 1, 2, 20, 300)) for _ in range(8))
        whole = out(text)
        assert out(text, 1) == whole, text[:300]
        assert out(text, 11) == whole, text[:300]


def calls(text: str, size: int, of: type[Stream] | type[Rendering]) -> int:
    """How many functions are called while that goes through: the work, on any machine."""
    count = 0

    def counted(_frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    stream = of(())
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        for at in range(0, len(text), size):
            stream.push(text[at : at + size])
        stream.end()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.long
@pytest.mark.parametrize("of", [Stream, Rendering])
@pytest.mark.parametrize("size", [4, 1_000_000])
def test_work_grows_with_the_length_alone(size: int, of: type[Stream] | type[Rendering]) -> None:
    for unit in REPEATS:
        less, much = (calls(unit * (length // len(unit)), size, of) for length in (10_000, 40_000))
        assert much <= 6 * less, unit
        assert much <= 60 * 40_000, unit


def test_a_long_answer_of_beginnings_ends() -> None:
    """A quarter of a million characters of what took minutes once, in pieces and in one."""
    for unit in ("](", "-----BEGIN PRIVATE KEY-----\n", "=:/(-._A", "![a](b", "[x](/a)", "|[a](/a)|[b](/b)|"):
        text = unit * (256_000 // len(unit))
        for size in (16, len(text)):
            stream = Stream(())
            shown = sum(len(stream.push(text[at : at + size])) for at in range(0, len(text), size)) + len(stream.end())
            assert 0 < shown <= len(text) + 100
