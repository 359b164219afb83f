"""What processes tell each other so that nobody has to wait for a poll. Any of it may be lost: a poll stands behind each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec


class Hints(Protocol):
    """Wake-ups for other processes; never for this one, which knows. Calls are quick, never raise and never wait."""

    def queued(self) -> None:
        """A run is queued: who has a slot may claim it."""
        ...

    def wrote(self, run_id: str) -> None:
        """The run's journal grew."""
        ...

    def posted(self, run_id: str) -> None:
        """Its inbox has news for its owner, or the run is gone."""
        ...


class DropHints(Protocol):
    """Tells other processes what must not be given from their memories any more. Quick, never raises and never waits."""

    def dropped(self, labels: Sequence[str]) -> None:
        """Answers that have all those labels (`app.domain.cache`)."""
        ...


class Hinted(Protocol):
    """Who is woken. Called in the event loop; quick."""

    def queued(self) -> None: ...

    def wrote(self, run_id: str) -> None: ...

    def posted(self, run_id: str) -> None: ...

    def dropped(self, labels: Sequence[str]) -> None: ...

    def switched(self) -> None: ...


class LivePiece(msgspec.Struct, frozen=True, kw_only=True):
    """Text of a message that is being written: `text` begins `offset` code points into it. `seq`: the run's last stored event before it."""

    run_id: str
    message_id: str
    seq: int
    offset: int
    text: str


class LiveChannel(Protocol):
    """Live text between processes, as long as it lasts; it may lose anything at any moment."""

    async def send(self, pieces: Sequence[LivePiece]) -> None:
        """Tell whoever listens, and keep each message's text for who comes later. Does nothing while the server is away."""
        ...

    async def listen(self, run_id: str) -> None:
        """Receive the pieces of that run from now on, until `leave`; also after the server was away."""
        ...

    async def leave(self, run_id: str) -> None: ...

    async def snapshot(self, run_id: str) -> LivePiece | None:
        """The text so far (`offset` 0) of the message that the run is writing; None where it is not known."""
        ...

    async def receive(self, said: Callable[[LivePiece], None], again: Callable[[], Awaitable[None]]) -> None:
        """Give every received piece to `said` until cancelled; `again` is called after each time that pieces may have been missed."""
        ...
