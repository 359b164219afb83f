"""The bytes of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from app.api.sse import ALIVE, GOODBYE, LARGE, OPENING, encode
from app.runs.stream import Item

SAID = Item("1", "said", b"{}")
NAMELESS = Item(None, "reasoning.delta", b"{}")


class Told:
    """A stream that goes on at given times, and the clock that shows them."""

    def __init__(self, *batches: tuple[float, list[Item]]) -> None:
        self._batches = batches
        self._now = 0.0

    def clock(self) -> float:
        return self._now

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        for at, batch in self._batches:
            self._now = at
            yield batch


async def name(item: Item) -> bytes:
    return b"" if item is NAMELESS else item.payload


async def test_a_stream_whose_events_have_no_name_says_that_it_lives() -> None:
    told = Told(
        (1.0, [SAID]), (10.9, [NAMELESS]), (11.0, [NAMELESS, NAMELESS]), (15.0, [NAMELESS]), (20.9, [NAMELESS]),
        (21.5, [NAMELESS]), (30.0, [NAMELESS, SAID]), (39.9, [NAMELESS]), (49.9, []), (59.0, [NAMELESS]), (60.0, [NAMELESS]),
    )  # fmt: skip
    sent = [(told.clock(), data) async for data in encode(told.batches(), name, keep_alive=10.0, clock=told.clock)]
    assert sent == [
        (0.0, OPENING), (1.0, b"{}"), (11.0, ALIVE), (21.5, ALIVE), (30.0, b"{}"), (49.9, ALIVE), (60.0, ALIVE),
        (60.0, GOODBYE),
    ]  # fmt: skip


async def test_what_was_sent_in_parts_was_sent() -> None:
    large = Item("2", "said", b"x" * (LARGE + 1))
    told = Told((10.0, [large, NAMELESS]), (19.9, [NAMELESS]), (20.0, [NAMELESS]))
    sent = [(told.clock(), len(data)) async for data in encode(told.batches(), name, keep_alive=10.0, clock=told.clock)]
    assert sent == [(0.0, len(OPENING)), (10.0, LARGE + 1), (20.0, len(ALIVE)), (20.0, len(GOODBYE))]
