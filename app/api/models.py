"""The model routes of this service."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from app.api.authentication import ANY_KEY, SCOPE
from app.api.problems import responses
from app.api.schemas import ModelList
from app.api.targets import Targets


@get(
    "/v1/models",
    opt={SCOPE: ANY_KEY},
    tags=["models"],
    summary="List the model routes",
    responses=responses("internal", "not_ready"),
)
async def list_models(targets: NamedDependency[Targets]) -> ModelList:
    """Every route with its targets in the order they are asked, and whether each may be asked now. No provider is called."""
    return ModelList(data=targets.models())


HANDLERS = [list_models]
