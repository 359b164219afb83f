"""The tools of an agent's file: names, or tables that say what this agent may do with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from app.domain.tool_policy import Caps, Rule, Spend, ToolPolicy, WhenTainted, is_tool_scope
from app.domain.tools import Risk, ToolSpec
from app.safety.arguments import wrong_entry
from app.settings.check import Check

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class SpendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`caps.spend` as written."""

    argument: str
    most: Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class CapsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`caps` as written. `window`: seconds, 31 days at most."""

    calls_per_run: Count | None = None
    calls: Count | None = None
    spend: SpendOptions | None = None
    window: Annotated[float, msgspec.Meta(ge=1, le=2_678_400)] = 86_400.0
    per: Literal["user", "tenant"] = "user"


class ToolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One tool as written; a bare name is a table with nothing but that. `risk` stands for what the tool says of itself."""

    name: str
    risk: Risk | None = None
    when_tainted: WhenTainted = "approve"
    scope: str | None = None
    allow: dict[str, Rule] = {}
    caps: CapsOptions | None = None


def as_tables(check: Check, data: Any) -> Any:
    """The file's data with a table for every tool. What can be none is refused, and left out."""
    if not isinstance(data, dict) or "tools" not in data:
        return data
    written, rest = data["tools"], {key: value for key, value in data.items() if key != "tools"}
    if not isinstance(written, list):
        check.refuse(("tools",), "must be a list of names, or of tables with a name")
        return rest
    tables = []
    for index, entry in enumerate(written):
        if not isinstance(entry, str | dict):
            check.refuse(("tools", str(index)), "must be a name, or a table with a name")
            return rest
        tables.append({"name": entry} if isinstance(entry, str) else entry)
    return {**rest, "tools": tables}


def check_tools(check: Check, entries: tuple[ToolEntry, ...], known: Mapping[str, ToolSpec], complete: bool) -> None:
    """Refuses tools that stand twice, that there are none of (where all that there are are known), and policies that do not fit them."""
    for index, entry in enumerate(entries):
        path = ("tools", str(index))
        spec = known.get(entry.name)
        if entry.name in [earlier.name for earlier in entries[:index]]:
            check.refuse(path, f"{entry.name} stands twice")
        elif spec is not None:
            _check_entry(check, path, entry, spec)
        elif complete:
            check.refuse(path, f"there is no tool {entry.name}; known: {', '.join(sorted(known))}")


def _check_entry(check: Check, path: tuple[str, ...], entry: ToolEntry, spec: ToolSpec) -> None:
    if entry.scope is not None and not is_tool_scope(entry.scope):
        check.refuse((*path, "scope"), f"{entry.scope!r} must be tool: and 1 to 64 of a-z 0-9 _ . -")
    parameters = spec.schema.get("properties", {})
    for name, rule in entry.allow.items():
        if name not in parameters:
            check.refuse((*path, "allow", name), _no_argument(spec, name))
        elif (why := wrong_entry(rule)) is not None:
            check.refuse((*path, "allow", name), why)
    caps = entry.caps
    if caps is None:
        return
    if caps.spend is not None and caps.spend.argument not in parameters:
        check.refuse((*path, "caps", "spend", "argument"), _no_argument(spec, caps.spend.argument))
    if caps.calls_per_run is None and caps.calls is None and caps.spend is None:
        check.refuse((*path, "caps"), "caps nothing: give calls_per_run, calls or spend")


def _no_argument(spec: ToolSpec, name: str) -> str:
    known = ", ".join(spec.schema.get("properties", {})) or "none"
    return f"{spec.name} has no argument {name}; known: {known}"


def spec_of(entry: ToolEntry, known: Mapping[str, ToolSpec]) -> ToolSpec:
    """The tool as that agent has it."""
    spec, caps = known[entry.name], None
    if entry.caps is not None:
        spend = (
            None if entry.caps.spend is None else Spend(argument=entry.caps.spend.argument, most=entry.caps.spend.most)
        )
        caps = Caps(
            calls_per_run=entry.caps.calls_per_run,
            calls=entry.caps.calls,
            spend=spend,
            window=entry.caps.window,
            per=entry.caps.per,
        )
    policy = ToolPolicy(when_tainted=entry.when_tainted, scope=entry.scope, allow=entry.allow, caps=caps)
    if entry.risk is not None:
        spec = msgspec.structs.replace(spec, risk=entry.risk)
    return spec if policy == ToolPolicy() else msgspec.structs.replace(spec, policy=policy)
