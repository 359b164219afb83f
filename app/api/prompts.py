"""The prompts of this service."""

from __future__ import annotations

from collections.abc import Iterable

from litestar import get
from litestar.di import NamedDependency

from app.api.authentication import ANY_KEY, SCOPE
from app.api.problems import responses
from app.api.schemas import PromptList, PromptView


class Prompts:
    """Every prompt as clients see it; `current` may be replaced while the service runs."""

    def __init__(self, current: Iterable[PromptView]) -> None:
        self.current = list(current)


@get(
    "/v1/prompts",
    opt={SCOPE: ANY_KEY},
    tags=["prompts"],
    summary="List the prompts",
    responses=responses("internal", "not_ready"),
)
async def list_prompts(prompts: NamedDependency[Prompts]) -> PromptList:
    """Every prompt, by name, with its versions in rising order. Templates are not shown."""
    return PromptList(data=prompts.current)


HANDLERS = [list_prompts]
