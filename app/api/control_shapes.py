"""What goes in and out where things are switched off."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from app.domain.controls import Control as Control


class DisableRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it is switched off, as whoever is refused is told."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None


class ControlList(msgspec.Struct, frozen=True):
    """Everything that is off for this tenant, by itself (`reach` tenant) or for everybody (`reach` instance)."""

    data: list[Control]
