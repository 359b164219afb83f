"""Where the Messages API is told to cache: its breakpoints.

The API keeps what stands before a breakpoint, in the order tools, system, messages, and a later request finds it again when one of its own
breakpoints stands at most 20 blocks further on. It takes 4 of them, counts none as content, and says nothing when it finds nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

IN_HISTORY = 3
"""Breakpoints in the messages; the fourth ends tools and system."""

STRIDE = 15
"""Blocks, at least, between the two oldest breakpoints in the messages: with the 20 that are looked back over, none between is missed."""


def with_breakpoints(body: dict[str, Any]) -> dict[str, Any]:
    """`body` itself, its breakpoints set: they depend on nothing but its blocks.

    One ends tools and system, so that sessions of one agent share them. The others are the ends of user messages, which are ours
    and can always carry one (thinking cannot): the last, where this call writes; the one before, where the call before wrote, however
    many blocks the answer and its results have; and one further back, for calls that failed or went elsewhere.
    """
    head = body.get("system") or body.get("tools")
    if head:
        _mark(head[-1])
    left, behind = IN_HISTORY, 0
    for message in reversed(body["messages"]):
        content = message["content"]
        if message["role"] == "user" and (left > 1 or behind >= STRIDE):
            _mark(content[-1])
            left, behind = left - 1, 0
            if not left:
                break
        behind += len(_RAW_BLOCKS.decode(content) if isinstance(content, msgspec.Raw) else content)
    return body


def _mark(block: dict[str, Any]) -> None:
    block["cache_control"] = {"type": "ephemeral"}


_RAW_BLOCKS = msgspec.json.Decoder(list[msgspec.Raw])
