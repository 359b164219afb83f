"""What was used, and what it cost."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.api.authentication import SCOPE
from app.api.paging import no_nul
from app.api.problems import responses
from app.api.schemas import UsageReport
from app.api.times import TIME, time_of
from app.domain.principals import Principal
from app.domain.usage import UsageQuery
from app.runs.usage import UsageService


@get(
    "/v1/usage",
    opt={SCOPE: "usage"},
    tags=["usage"],
    summary="Usage and cost",
    responses=responses("validation_error", "internal", "not_ready"),
)
async def get_usage(
    usage: NamedDependency[UsageService],
    principal: NamedDependency[Principal],
    group_by: Annotated[
        str,
        QueryParameter(
            description="`day`, `month` (both in UTC), `agent`, `model`, `user`, or `tag:NAME`.",
            schema_extra={"pattern": "^(day|month|agent|model|user|tag:.+)$"},
        ),
    ] = "day",
    since: Annotated[
        str | None, QueryParameter(name="from", description="Calls begun at or after.", schema_extra=TIME)
    ] = None,
    until: Annotated[
        str | None, QueryParameter(name="to", description="Calls begun before.", schema_extra=TIME)
    ] = None,
) -> UsageReport:
    """Every call of a model that is over, failed and abandoned ones too, by groups and in all.

    `requests` counts runs, each in every group in which it called a model. Null is not 0: `cost_usd` and each number of `usage`
    add up what is known, and are null where nothing is; `unpriced` calls have a cost that nobody knows, `estimated` ones were
    counted by no provider. `average` is for one request.
    """
    no_nul(group_by)
    return await usage.report(
        principal, UsageQuery(group_by=group_by, since=time_of("from", since), until=time_of("to", until))
    )


HANDLERS = [get_usage]
