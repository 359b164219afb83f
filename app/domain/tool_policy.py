"""What an agent's file says of one of its tools beyond what the tool says of itself."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

WhenTainted = Literal["approve", "allow", "deny"]
"""What becomes of a call once the context holds words from outside: asks a person (above `low`), is judged as if it held none, is refused."""
SCOPE = r"tool:[a-z0-9_.-]{1,64}"
"""What the scopes look like that tools ask for, in full: none of them can be mistaken for one of the service's own."""


def is_tool_scope(text: str) -> bool:
    """Whether that is a scope that a tool may ask for."""
    return re.fullmatch(SCOPE, text) is not None


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one argument may be: everything that is given here must hold, for every item where the argument is a list.

    `hosts` of a URL: names, `*.name` for all below it, with `:port` where it is not the scheme's own; `under`: folders; `minimum`
    and `maximum` of a number, both included; `one_of`: texts or numbers as they are; `like`: texts in which `*` stands for anything.
    """

    hosts: tuple[str, ...] = ()
    under: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    one_of: tuple[str | int | float | bool, ...] = ()
    like: tuple[str, ...] = ()


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of that argument over a window's calls is at most `most`."""

    argument: str
    most: float


class Caps(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often and for how much a tool is called: `calls_per_run` in one run; `calls` and `spend` in any `window` seconds.

    A window counts the calls of a user (those without one together), or `per` tenant.
    """

    calls_per_run: int | None = None
    calls: int | None = None
    spend: Spend | None = None
    window: float = 86_400.0
    per: Literal["user", "tenant"] = "user"


class ToolPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent's own policy for a tool. `scope`: what the caller must have been granted; `allow`: rules by argument."""

    when_tainted: WhenTainted = "approve"
    scope: str | None = None
    allow: dict[str, Rule] = {}
    caps: Caps | None = None


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """One call that is about to run. `amount`: what it spends, where its caps count that."""

    tenant: str
    user_id: str | None
    tool: str
    run_id: str
    call_id: str
    amount: Decimal | None = None


class ToolUses(Protocol):
    """Counts the calls of tools that have caps, across processes."""

    async def use(self, use: ToolUse, caps: Caps) -> Literal["calls_per_run", "calls", "spend"] | None:
        """The call is counted, once however often it is told; or the cap that it would exceed, and it is not counted.

        May raise `DatabaseUnavailable`.
        """
        ...
