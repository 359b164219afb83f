"""An agent as a run uses it: resolved, immutable, named by a hash."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from app.domain.messages import JsonObject
from app.domain.models import Reasoning
from app.domain.screening import Screening
from app.domain.tools import Risk, ToolSpec

Kind = Literal["chat", "react"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one run. `timeout` is seconds of execution, not of queueing; `tokens` are those of all its calls, in and out.

    UNSET: nobody wrote one down, and the default holds; dollars then only where the models' prices are known.
    """

    iterations: int = 10
    timeout: float = 120.0
    tokens: int | msgspec.UnsetType = msgspec.UNSET
    cost_usd: float | msgspec.UnsetType = msgspec.UNSET

    @property
    def most_tokens(self) -> int:
        """`tokens`, or the default."""
        return 100_000 if self.tokens is msgspec.UNSET else self.tokens

    @property
    def most_usd(self) -> float:
        """`cost_usd`, or the default."""
        return 0.5 if self.cost_usd is msgspec.UNSET else self.cost_usd


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is sent: so many tokens, by an estimate, and so many characters of a long tool result of an older turn.

    `summary`: the route whose model sums up the turns that are left out; absent: they are left out without.
    """

    tokens: int = 100_000
    tool_result: int = 20_000
    summary: str | msgspec.UnsetType = msgspec.UNSET


class Caching(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answers are given again for `ttl` seconds: to the same question, and where `threshold` is given also to one whose
    meaning is as near as that (cosine, at most 1).
    """

    ttl: float
    threshold: float | None = None


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that a prompt takes from the caller's `context`. Without a default it must be given."""

    type: Literal["string", "integer", "number", "boolean"] = "string"
    description: str = ""
    default: str | int | float | bool | None = None


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt + tools + model + policy. `instructions` may name `variables` as `{{name}}`; `prompt` says where they came from (`name@v2`)."""

    name: str
    description: str
    kind: Kind
    instructions: str
    variables: dict[str, Variable] = {}
    prompt: str | None = None
    model: str = "default"
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning: Reasoning | None = None
    tools: tuple[ToolSpec, ...] = ()
    limits: Limits = Limits()
    auto_approve: Risk = "low"
    output_schema: JsonObject | None = None
    context: Budget | msgspec.UnsetType = msgspec.UNSET
    fallback_reply: str | msgspec.UnsetType = msgspec.UNSET
    cache: Caching | msgspec.UnsetType = msgspec.UNSET
    safety: Screening | msgspec.UnsetType = msgspec.UNSET
    concurrency: int | msgspec.UnsetType = msgspec.UNSET
    version: str = ""

    @property
    def screening(self) -> Screening:
        """The agent's own `safety`, or the defaults."""
        return Screening() if self.safety is msgspec.UNSET else self.safety

    @property
    def budget(self) -> Budget:
        """The agent's own `context`, or the defaults."""
        return Budget() if self.context is msgspec.UNSET else self.context

    def tool(self, name: str) -> ToolSpec | None:
        """The agent's tool of that name."""
        return next((spec for spec in self.tools if spec.name == name), None)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that its tools ask of a caller."""
        return tuple(dict.fromkeys(spec.rules.scope for spec in self.tools if spec.rules.scope is not None))


def versioned(agent: Agent) -> Agent:
    """The same agent with its `version`: 12 hex digits of SHA-256 over everything else, key order aside."""
    bare = msgspec.structs.replace(agent, version="")
    digest = hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
    return msgspec.structs.replace(agent, version=digest[:12])
