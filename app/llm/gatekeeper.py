"""What the router asks before it asks a target, and tells afterwards."""

from __future__ import annotations

from typing import Protocol

from app.llm.taxonomy import Effect


class Permit(Protocol):
    """One call that may be made. Whoever made it says once how it went."""

    def succeeded(self) -> None:
        """The target answered."""
        ...

    def failed(self, effect: Effect, retry_after: float | None) -> None:
        """It failed in a way that counts against it, or that opens its breaker. `retry_after` is seconds, where it said so."""
        ...

    def abandoned(self) -> None:
        """The call ended without saying anything about the target."""
        ...


class Gatekeeper(Protocol):
    """The breakers of all targets."""

    async def admit(self, provider: str, model: str) -> Permit | None:
        """The permit to ask that target now, if it may be."""
        ...
