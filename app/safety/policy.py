"""May this call run? By the trust of what the model had read, the tool's risk and effect, and the call's arguments: a table, no model.

Nothing here looks at what a text means. Whoever controls every word that a model writes still gets no further than this.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import msgspec

from app.domain.agents import Agent
from app.domain.provenance import Taint
from app.domain.tool_policy import WhenTainted
from app.domain.tools import RISKS, Risk, ToolSpec
from app.safety import arguments

Judge = Literal["agent", "person", "nobody"]
"""Who lets a call run: the agent's own `auto_approve`; a person, whatever that says (but for `low`); nobody."""

TABLE: dict[tuple[Taint, WhenTainted], tuple[Judge, int]] = {
    ("clean", "approve"): ("agent", 0),
    ("clean", "allow"): ("agent", 0),
    ("clean", "deny"): ("agent", 0),
    ("tainted", "approve"): ("person", 0),
    ("tainted", "allow"): ("agent", 0),
    ("tainted", "deny"): ("nobody", 0),
    ("suspect", "approve"): ("person", 1),
    ("suspect", "allow"): ("agent", 1),
    ("suspect", "deny"): ("nobody", 1),
}
"""By context and by what the agent's file says of the tool: who decides, and by how many levels the call's risk is raised.

The risk of a `low` read is not raised: it changes nothing, and most of a task's steps are such.
"""


class Judgement(msgspec.Struct, frozen=True):
    """What becomes of a call: it runs, a person is asked about it at `risk`, or it does not run, and the model is told `why`."""

    outcome: Literal["allow", "approve", "deny"]
    risk: Risk
    why: str = ""


def judge(agent: Agent, spec: ToolSpec, text: str, context: Taint, granted: Set[str]) -> Judgement:
    """What becomes of a call of that tool with those arguments (JSON text), in that context, for a caller with those scopes.

    The same values give the same judgement, also after a restart. An approval is for one that says `approve`; it does not
    outweigh a `deny`.
    """
    rules = spec.rules
    if rules.scope is not None and rules.scope not in granted:
        return Judgement("deny", spec.risk, f"the caller may not use it (that takes the scope {rules.scope})")
    if (problem := arguments.refused(spec, text)) is not None:
        return Judgement("deny", spec.risk, f"this agent does not allow that: {problem}")
    who, levels = TABLE[context, rules.when_tainted]
    if who == "nobody":
        return Judgement("deny", spec.risk, "this agent does not run it after reading what comes from outside")
    risk = raised(spec, levels)
    most: Risk = "low" if who == "person" else agent.auto_approve
    return Judgement("allow" if RISKS.index(risk) <= RISKS.index(most) else "approve", risk)


def raised(spec: ToolSpec, levels: int) -> Risk:
    """The tool's risk, so many levels higher."""
    if spec.risk == "low" and spec.effect == "read":
        return spec.risk
    return RISKS[min(RISKS.index(spec.risk) + levels, len(RISKS) - 1)]
