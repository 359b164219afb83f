"""Which model targets can be used, as far as it is known without asking them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TargetStatus = Literal["ready", "degraded", "unavailable"]


class Targets:
    """The providers of every route, in order. A provider is usable when it is configured, and all of a route are."""

    def __init__(self, *, routes: Mapping[str, tuple[str, ...]]) -> None:
        self.routes = dict(routes)

    @property
    def providers(self) -> list[str]:
        """Every provider that a route uses."""
        return sorted({name for chain in self.routes.values() for name in chain})

    def status(self, route: str) -> TargetStatus:
        """ready: the first target is usable; degraded: a later one is; unavailable: none."""
        return "ready" if self.routes.get(route) else "unavailable"
