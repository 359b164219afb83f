"""What models cost, and how much may be spent: the ledger of attempts, and the budgets of months.

Dollars are exact decimals everywhere here. None is never 0: it is what nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from app.domain.messages import JsonObject, Usage
from app.domain.models import Basis, Outcome
from app.domain.prices import Price
from app.domain.principals import Principal

Scope = Literal["tenant", "user"]
"""Whose month a budget bounds. Counters are locked in this order."""

Kind = Literal["run", "batch", "shadow"]
"""What an attempt was for: a step of a run, a request of a batch, or a copy of a request whose answer nobody gets."""

GROUPS = ("day", "month", "agent", "model", "user")
TAG = "tag:"
"""What a report may be grouped by; after `tag:` stands a tag's name."""


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What a month may cost at most, in UTC, each tenant and each of its users. None: nobody bounds it.

    `levels`: the parts of a cap at which it is told, in rising order, 1 for all of it.
    """

    tenant: Decimal | None = None
    user: Decimal | None = None
    levels: tuple[Decimal, ...] = ()


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of a run that is about to be made, by the owner of that `epoch`. `number` is its place in its call.

    `input_tokens` and `input_usd` are an estimate, None where no price is known: what it costs if its owner dies.
    `reserved_usd`: what it may cost at most as far as that can be known, 0 where no price is.
    """

    id: UUID
    run_id: str
    epoch: int
    route: str
    provider: str
    model: str
    number: int
    input_tokens: int
    input_usd: Decimal | None
    reserved_usd: Decimal


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an opening. `refused`: that budget has not enough left, `left_usd` at the most, and nothing was written.

    `near`: what is spent and reserved comes to a level that nobody was told of yet.
    """

    refused: Scope | None = None
    left_usd: Decimal | None = None
    near: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt that was opened has used. `model` is the one that answered, None where none said so."""

    id: UUID
    basis: Basis
    outcome: Outcome | Literal["abandoned"]
    model: str | None
    usage: Usage | None
    cost_usd: Decimal | None


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose owner died: it is open still, under an epoch that is over. As in `Opening`."""

    id: UUID
    route: str
    provider: str
    model: str
    number: int
    input_tokens: int
    input_usd: Decimal | None


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt outside of any run, whole: written down once, when it is known what it cost. Where nobody counted, `basis` says so.

    `id` is the caller's: the same one a second time changes nothing. `at`: when it was made.
    """

    id: UUID
    tenant: str
    user_id: str | None
    kind: Kind
    route: str
    provider: str
    model: str
    outcome: Outcome
    basis: Basis
    usage: Usage | None
    cost_usd: Decimal | None
    at: datetime
    session_id: str | None = None
    agent: str | None = None
    agent_version: str | None = None
    tags: JsonObject = {}


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A budget came to one of its levels. `key` is the user, empty for the tenant; `month` its first day."""

    tenant: str
    scope: Scope
    key: str
    month: date
    level: Decimal
    spent_usd: Decimal
    cap_usd: Decimal


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to report: `group_by` is one of `GROUPS`, or `tag:` and a name. Attempts begun from `since` until before `until`."""

    group_by: str = "day"
    since: datetime | None = None
    until: datetime | None = None


class UsageAverage(msgspec.Struct, frozen=True, kw_only=True):
    """What one request took on average. None: nobody knows of any. `cost_usd` counts what has no price as nothing."""

    input_tokens: float | None
    output_tokens: float | None
    cost_usd: float | None


class UsageGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What everything under one key used. `key`: a day or a month in UTC, an agent, provider/model as it was asked for, a user, or a tag's value; null
    for what has none.

    `requests`: runs (each in every group in which it made an attempt) and attempts outside of runs; `attempts`: calls of models,
    failed and abandoned ones too. A sum is of what is known, and null where nothing is: `unpriced` attempts have a cost that
    nobody knows. `estimated` ones are those that no provider counted, `abandoned` those among them whose process died.
    """

    key: str | None
    requests: int
    attempts: int
    usage: Usage
    cost_usd: float | None
    unpriced: int
    estimated: int
    abandoned: int
    average: UsageAverage


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The groups in the order of their keys, and everything together."""

    data: list[UsageGroup]
    total: UsageGroup


class Quotes(Protocol):
    """What models cost before they are asked."""

    async def price(self, provider: str, model: str) -> Price | None:
        """The price of a call without a service tier of its own; None: not known."""
        ...

    async def least(self, route: str, input_tokens: int) -> Decimal | None:
        """Dollars that a call of the route's first choice costs at least, with such an input. None: nothing, or nobody knows."""
        ...


class UsageLedger(Protocol):
    """Every attempt at a model, one row each, and what months have cost. Every method may raise `DatabaseUnavailable`.

    A row is settled once. With runs that is done by the writes of `RunStore`, which store what the journal says of it.
    """

    async def open(self, opening: Opening) -> Opened:
        """The row is there, and its reservation is on all counters that bound it; or nothing is. Once per id.

        Raises `Fenced` where the run is not (any more) owned under that epoch.
        """
        ...

    async def lost(self, run_id: str, epoch: int) -> list[Lost]:
        """Attempts of that run which owners before `epoch` left open, in the order they were made."""
        ...

    async def record(self, spending: Spending) -> bool:
        """Write down an attempt outside of a run, and charge it. It is never refused: it was made. False: it was there."""
        ...

    async def sweep(self) -> int:
        """Settle what nobody else will any more: open attempts of runs that ended or are gone, or of older owners. How many."""
        ...

    async def untold(self) -> Sequence[Crossing]:
        """Levels that budgets have come to and that no run was told of; they count as told from now on."""
        ...

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        """What is settled, within the principal."""
        ...
