"""The values of a structured answer, each string as it reads: what its JSON hides from those who look at the text."""

from __future__ import annotations

from typing import Any

from app.domain.screening import Screening
from app.safety.leaks import Instructions, Leaks
from app.safety.rendering import Rendering
from app.safety.streams import Stream


def guarded(value: Any, policy: Screening, instructions: str) -> Any:
    """The value of decoded JSON without secrets, carrying links and instructions in any string, names of members too.

    The same value where there are none. Personal data is not looked for: the reader's own was put in there.
    """
    if policy.output == "off":
        return value
    known = Instructions(instructions)
    return _guarded(value, policy, known if known.enough else None)


def _guarded(value: Any, policy: Screening, known: Instructions | None) -> Any:
    if isinstance(value, str):
        stream = Stream(policy.link_hosts)
        text = stream.push(value) + stream.end()
        if known is not None:
            leaks = Leaks(known)
            text = leaks.push(text) + leaks.end()
        rendering = Rendering(policy.link_hosts)
        return rendering.push(text) + rendering.end()
    if isinstance(value, list):
        return [_guarded(one, policy, known) for one in value]
    if isinstance(value, dict):
        return {_guarded(name, policy, known): _guarded(one, policy, known) for name, one in value.items()}
    return value
