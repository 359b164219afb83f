"""How JSON is nested, found out before anything is made of it: few passes over the bytes, each at the speed of C, however they are nested."""

from __future__ import annotations

from itertools import accumulate

MAX_DEPTH = 100
"""How deep arrays and objects may stand in each other: far below what any layer of ours can take."""
MAX_CONTAINERS = 50_000
"""How many arrays and objects a body may have: each costs far more than its two bytes."""
PIECE = 16_384
"""Brackets that are looked at before another thread may have its turn."""

_OTHERS = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STEPS = bytes(1 if byte in b"[{" else 255 for byte in range(256))


def nested_wrongly(body: bytes, containers: int = MAX_CONTAINERS) -> str | None:
    """Why the JSON is nested too deeply, or has more than so many arrays and objects; None: it is not. Of bytes that are no JSON it says anything.

    Few brackets, as almost every body has, are counted and no more.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return None
    shape = _brackets(body)
    found = shape.count(b"[") + shape.count(b"{")
    if found > containers:
        return f"has more than {containers} arrays and objects"
    if found > MAX_DEPTH and _too_deep(shape):
        return f"is nested more than {MAX_DEPTH} levels deep"
    return None


def _brackets(body: bytes) -> bytes:
    """The brackets outside of strings, in their order."""
    if b"\\" in body:  # in this order: a backslash that another one escapes escapes nothing
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = body.translate(None, _OTHERS)
    # Two quotes side by side may be an empty string's or end one string and begin the next: without them the rest stays inside or outside as it was.
    return b"".join(shape.replace(b'""', b"").split(b'"')[::2])


def _too_deep(shape: bytes) -> bool:
    steps = memoryview(shape.translate(_STEPS)).cast("b")
    depth = 0
    for start in range(0, len(steps), PIECE):
        levels = list(accumulate(steps[start : start + PIECE], initial=depth))
        if max(levels) > MAX_DEPTH:
            return True
        depth = levels[-1]
    return False
