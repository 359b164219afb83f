"""What is left of a run bounds what a model may write. Pure."""

from __future__ import annotations

import msgspec

from app.domain.fold import MIN_OUTPUT, RunState
from app.domain.models import ModelRequest

OPEN_OUTPUT = 16_384
"""A request that bounds no output gets a bound once less than this is left. Every current model takes it; a bound above what its
model can write would be refused."""


def bounded(request: ModelRequest, room: int) -> ModelRequest:
    """The request with an output of at most `room` tokens, where that can be less than the model would write."""
    most = request.max_output_tokens
    if room >= (OPEN_OUTPUT if most is None else most):
        return request
    return msgspec.structs.replace(request, max_output_tokens=room)


def within(request: ModelRequest, state: RunState) -> ModelRequest:
    """The request bounded by what the run may still use: its tokens now, its dollars where the price is known."""
    request = bounded(request, max(MIN_OUTPUT, state.tokens_left))
    return msgspec.structs.replace(request, usd_left=state.dollars_left)
