"""Recorded provider traffic, where it is there: `LLM_RECORDINGS`, or `shared/recordings` beside or above the repository."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from app.domain.messages import Api


@cache
def folder() -> Path | None:
    """Where the recordings are; None where there are none."""
    root = Path(__file__).resolve().parents[2]
    places = [Path(os.environ["LLM_RECORDINGS"])] if "LLM_RECORDINGS" in os.environ else []
    places += [root / "shared" / "recordings", root.parent / "shared" / "recordings"]
    return next((place for place in places if (place / "golden").is_dir()), None)


def episodes(api: Api) -> list[dict[str, Any]]:
    """Every recorded conversation of an API."""
    place = folder()
    if place is None:
        return []
    return [msgspec.json.decode(line) for line in (place / f"{api}.jsonl").read_bytes().splitlines()]


def turns(api: Api) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, turn, reading to reach) of every recorded turn."""
    place = folder()
    if place is None:
        return
    golden = msgspec.json.decode((place / "golden" / f"{api}.golden.json").read_bytes())
    for episode in episodes(api):
        for n, turn in enumerate(episode["turns"]):
            name = f"{episode['id']}#{n}"
            want = golden[name]
            yield name, turn, want["streamed"] if turn["stream"] else want.get("plain", want["streamed"])
