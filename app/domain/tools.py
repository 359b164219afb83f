"""Tools as the loop and the models see them. How they are declared and run is `app.tools`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from app.domain.messages import JsonObject, ToolCall
from app.domain.tool_policy import ToolPolicy

Risk = Literal["low", "medium", "high", "critical"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high", "critical")
Effect = Literal["read", "idempotent", "write"]
Returns = Literal["trusted", "untrusted"]
"""Whose words a tool gives back: its author's own and nothing else, or somebody's outside."""
ToolStatus = Literal["ok", "error", "timeout", "denied", "cancelled", "outcome_unknown"]


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of a tool (`name`, `description`, `schema`: JSON Schema of its arguments), and what policy needs. `timeout` in seconds.

    `polls`: it looks at something that takes its time, and is called again until that has changed; absent: nobody said so.
    `returns` absent: untrusted. `policy` is that of the agent that has the tool, absent where its file says nothing of it.
    """

    name: str
    description: str
    schema: JsonObject
    risk: Risk = "high"
    effect: Effect = "write"
    timeout: float = 30.0
    retry: int = 0
    polls: bool | msgspec.UnsetType = msgspec.UNSET
    returns: Returns | msgspec.UnsetType = msgspec.UNSET
    policy: ToolPolicy | msgspec.UnsetType = msgspec.UNSET

    @property
    def own_words(self) -> bool:
        """Whether its results say nothing that somebody outside could have written."""
        return self.returns == "trusted"

    @property
    def rules(self) -> ToolPolicy:
        """The agent's policy for it, or the default."""
        return ToolPolicy() if self.policy is msgspec.UNSET else self.policy


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one call. `result` is JSON: what the tool returned, or a sentence that tells the model what went wrong.

    `signals`: what the detector saw in it.
    """

    call_id: str
    name: str
    status: ToolStatus
    result: msgspec.Raw
    signals: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What the model reads: a string as it is, anything else as JSON."""
        return result_text(self.result)


def result_text(result: msgspec.Raw) -> str:
    """The model's reading of a tool's JSON result."""
    data = bytes(result)
    return msgspec.json.decode(data, type=str) if data.startswith(b'"') else data.decode()


def unseen(effect: Effect | None) -> ToolStatus:
    """What became of a call whose end nobody saw: a write (or a tool that is not known any more) may have taken effect."""
    return "cancelled" if effect in ("read", "idempotent") else "outcome_unknown"


class SessionStateAccess(Protocol):
    """The session's JSON object, as its tools share it. Changes show in the run's stream as `state.changed`."""

    async def get(self) -> JsonObject:
        """The state as it is now; empty at first."""
        ...

    async def update(self, change: Callable[[JsonObject], JsonObject]) -> JsonObject:
        """Replace the state by what `change` makes of it, and return that. Called again where somebody else was faster."""
        ...


def anything(_parameter: str, _value: Any) -> str | None:
    """Of a policy without rules: every value of every parameter is allowed."""
    return None


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool may know of the run that calls it. A tool asks for it by a parameter of this type.

    `idempotency_key` is the same for every repetition of this call; `deadline` is `time.monotonic()` seconds;
    `emit(name, data)` shows progress in the run's stream; `state` is the session's. `permits(parameter, value)` says why the agent's
    allow-list of that parameter has no such value, None where it has: for what a tool finds on its way, such as a redirect.
    """

    run_id: str
    session_id: str
    tenant: str
    user_id: str | None
    call_id: str
    idempotency_key: str
    deadline: float
    emit: Callable[[str, Any], Awaitable[None]]
    state: SessionStateAccess
    permits: Callable[[str, Any], str | None] = anything


class Toolbox(Protocol):
    """Every tool of a workspace."""

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The tools of these names, in that order. Raises KeyError with the first unknown name."""
        ...

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """Decode and validate the arguments, then run the tool within its timeout and the context's deadline.

        `spec` None: the agent has no tool of that name, which the model is told. Whatever goes wrong is a result that is
        not `ok`; only cancellation is raised.
        """
        ...
