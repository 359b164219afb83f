"""Streams that die on their way, after every frame of every API: what was shown last is the text of exactly one attempt."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from app.domain.errors import ProviderError
from app.domain.messages import Api
from app.domain.models import Completed, ModelChunk, Restarted, TextDelta
from app.llm.router import Route
from tests.llm.targets import Ran, call, texts
from tests.llm.test_streams import TEXT, stream
from tests.llm.wire import API_NAMES, Pieces, Script, Served, cut, provider

OTHER = TEXT.replace("one", "two")
"""What the second target says."""
NEXT: dict[Api, Api] = dict(zip(API_NAMES, [*API_NAMES[1:], API_NAMES[0]], strict=True))
ENDS = {"cut": httpx2.ReadError("reset by peer"), "early": None}
ERROR = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n'


def deaths(api: Api) -> Iterator[tuple[bytes, bool]]:
    """Everything that may come of a stream: up to each frame, and up to the middle of it; whether the answer is whole then."""
    frames = [frame + b"\n\n" for frame in stream(api).split(b"\n\n") if frame.strip()]
    for n, frame in enumerate(frames):
        yield b"".join(frames[:n]), False
        yield b"".join(frames[:n]) + frame[: len(frame) // 2], False
    yield b"".join(frames), True


def last(chunks: list[ModelChunk]) -> list[ModelChunk]:
    """What came after the last restart."""
    begun = max((n for n, chunk in enumerate(chunks) if isinstance(chunk, Restarted)), default=-1)
    return chunks[begun + 1 :]


async def dying(api: Api, body: bytes, error: Exception | None, on_midstream: str, tries: int) -> Ran:
    """The first target dies so as often as it is asked, the second one answers."""
    second = stream(NEXT[api]).replace(b" one", b" two")
    dead = Script(*(Served(Pieces(cut(body, 64), error)) for _ in range(tries)))
    async with provider(api, dead) as first, provider(NEXT[api], Script(Served(second)), "https://b.test/v1") as other:
        other.name = "other"
        targets = (first.target("model-1"), other.target("model-2"))
        return await call(Route(targets=targets, on_midstream=on_midstream), part=0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["cut", "early", "error"])
@pytest.mark.parametrize("api", API_NAMES)
async def test_the_last_text_is_that_of_one_attempt(api: Api, end: str) -> None:
    restarts = set()
    for body, whole in deaths(api):
        dead = body + ERROR if end == "error" and (not body or body.endswith(b"\n\n")) else body
        ran = await dying(api, dead, ENDS.get(end), "reset", 3)
        assert ran.failure is None, body
        shown = last(ran.chunks)
        answer = shown[-1]
        assert isinstance(answer, Completed)
        assert [type(chunk) for chunk in ran.chunks].count(Completed) == 1
        (ok,) = [attempt for attempt in ran.recorder.attempts if attempt.outcome == "ok"]
        assert ok is ran.recorder.attempts[-1]
        assert texts(shown) == answer.content == (OTHER if ok.number > 1 else TEXT), body
        assert len(ran.recorder.attempts) == (4 if ok.number > 1 else 1)
        assert not whole or ok.number == 1
        taken_back = [chunk for chunk in ran.chunks if isinstance(chunk, Restarted)]
        assert bool(taken_back) == (texts(ran.chunks) != answer.content)
        restarts.add(len(taken_back))
    assert restarts == {0, 3}, "each of the three attempts showed some of its text, or none did"


@pytest.mark.parametrize("api", API_NAMES)
async def test_or_the_error_where_text_was_shown(api: Api) -> None:
    ended = set()
    for body, _ in deaths(api):
        ran = await dying(api, body, ENDS["cut"], "error", 3)
        assert not any(isinstance(chunk, Restarted) for chunk in ran.chunks)
        if ran.failure is None:
            assert texts(ran.chunks) in (TEXT, OTHER)
        else:
            assert type(ran.failure) is ProviderError
            assert (ran.failure.kind, len(ran.recorder.attempts)) == ("stream_broken", 1)
            assert any(isinstance(chunk, TextDelta) for chunk in ran.chunks)
            assert TEXT.startswith(texts(ran.chunks))
        ended.add(ran.failure is None)
    assert ended == {True, False}
