"""Agent files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import jsonschema
import msgspec
import referencing.exceptions
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from referencing.jsonschema import specification_with

from app.domain.agents import Agent, Budget, Caching, Kind, Limits, versioned
from app.domain.errors import ConfigProblem
from app.domain.messages import JsonObject
from app.domain.models import Reasoning
from app.domain.screening import OutputGuards, Pii, Screening
from app.domain.tools import Risk, ToolSpec
from app.prompts.registry import Prompt, Temperature, Text, find
from app.prompts.render import placeholders
from app.settings.check import Check, Source
from app.settings.options import Host
from app.workspace.agent_tools import ToolEntry, as_tables, check_tools, spec_of
from app.workspace.documents import Document

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Of agents and prompts."""
NOT_YET = ("kind=team",)


class LimitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`limits` as written."""

    iterations: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 120.0
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] | None = None
    cost_usd: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None


class ContextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`context` as written."""

    tokens: Annotated[int, msgspec.Meta(ge=1_000, le=10_000_000)] = Budget().tokens
    tool_result: Annotated[int, msgspec.Meta(ge=200, le=10_000_000)] = Budget().tool_result
    summary: str | None = None


class SemanticOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`cache.semantic` as written. `threshold`: the least cosine of two questions that mean the same."""

    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.85


class CacheOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`cache` as written. `ttl`: seconds that an answer is given again."""

    ttl: Annotated[float, msgspec.Meta(gt=0, le=2_592_000)] | None = None
    semantic: SemanticOptions | None = None


class SafetyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`safety` as written. What is not there is as [safety] says. `reveal`: the tools that get the real values, secrets too; not
    given, all get personal data until the model has read anything untrusted.
    """

    pii: Pii | None = None
    output: OutputGuards | None = None
    max_input: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] | None = None
    link_hosts: tuple[Host, ...] | None = None
    reveal: tuple[str, ...] | None = None


class AgentFile(msgspec.Struct, frozen=True, kw_only=True):
    """agents/NAME.yaml as written."""

    description: str = ""
    kind: Kind = "react"
    prompt: str | None = None
    instructions: Text | None = None
    model: str = "default"
    temperature: Temperature | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    reasoning: Reasoning | None = None
    tools: tuple[ToolEntry, ...] = ()
    limits: LimitOptions = LimitOptions()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    auto_approve: Risk = "low"
    output_schema: JsonObject | None = None
    fallback_reply: Text | None = None
    context: ContextOptions = ContextOptions()
    cache: CacheOptions | None = None
    safety: SafetyOptions = SafetyOptions()


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What agents may name; of the routes those of `tiered` have tiers. None: it did not load, so that nobody can say whether a name is right."""

    routes: frozenset[str] | None
    tiered: frozenset[str]
    prompts: Mapping[str, Prompt]
    broken_prompts: frozenset[str]
    tools: Mapping[str, ToolSpec]
    tools_complete: bool
    embeddings: bool | None = None
    screening: Screening = Screening()


class ReadAgent(msgspec.Struct, frozen=True):
    """An agent, and the file that it is made of."""

    agent: Agent
    file: AgentFile


def read_agent(name: str, document: Document, around: Surroundings) -> tuple[ReadAgent | None, list[ConfigProblem]]:
    """The agent that the file describes, or None and what is wrong with the file. Nothing is, where only a prompt or tool that
    the agent needs did not load.
    """
    check = Check(source=Source(where=document.where), not_yet=NOT_YET)
    if not NAME.fullmatch(name):
        check.refuse((), "an agent's file is named by 1 to 64 of a-z 0-9 _ -, beginning with a letter or a digit")
    written = check.fits(AgentFile, as_tables(check, document.data))
    if written is None:
        return None, check.problems
    file = msgspec.convert(written, AgentFile)
    _check_instructions(check, file, around)
    if file.kind == "chat" and file.tools:
        check.refuse(("tools",), "an agent of kind chat has none; use kind react")
    check_tools(check, file.tools, around.tools, around.tools_complete)
    for path, route in ((("model",), file.model), (("context", "summary"), file.context.summary)):
        if around.routes is not None and route is not None and route not in around.routes:
            check.refuse(path, f"there is no route {route}; known: {', '.join(sorted(around.routes))}")
    if file.context.summary in around.tiered:
        check.refuse(("context", "summary"), f"{file.context.summary} has tiers: name a route with a chain")
    if file.output_schema is not None:
        _check_schema(check, file.output_schema)
    _check_reply(check, file)
    _check_safety(check, file)
    if file.cache is not None and ("cache",) not in check.refused:
        _check_cache(check, file.cache, around)
    needs_broken = file.prompt is not None and file.prompt.partition("@")[0] in around.broken_prompts
    if check.problems or needs_broken or not around.tools.keys() >= {tool.name for tool in file.tools}:
        return None, check.problems
    return ReadAgent(_agent(name, file, around), file), []


def varied(name: str, file: AgentFile, around: Surroundings, *, prompt: str | None, model: str | None) -> Agent:
    """The agent of that name that the file would describe with another prompt or route. `prompt` and `model` are known to be there."""
    if prompt is not None:
        file = msgspec.structs.replace(file, prompt=prompt, instructions=None)
    agent = _agent(name, file, around)
    return agent if model is None else versioned(msgspec.structs.replace(agent, model=model))


def _agent(name: str, file: AgentFile, around: Surroundings) -> Agent:
    """The agent; what says nothing but defaults has none, and the version that it had before there were any."""
    reference, version = find(around.prompts, file.prompt) if file.prompt is not None else (None, None)
    instructions = file.instructions or ""
    if version is not None:
        instructions = version.template
    summary = msgspec.UNSET if file.context.summary is None else file.context.summary
    screening = _screening(file.safety, around.screening)
    budget = Budget(tokens=file.context.tokens, tool_result=file.context.tool_result, summary=summary)
    return versioned(
        Agent(
            name=name,
            description=file.description,
            kind=file.kind,
            instructions=instructions,
            variables=version.declared() if version is not None else {},
            prompt=reference,
            model=version.model if version is not None and version.model is not None else file.model,
            temperature=(
                version.temperature if version is not None and version.temperature is not None else file.temperature
            ),
            max_output_tokens=file.max_output_tokens,
            reasoning=file.reasoning,
            tools=tuple(spec_of(entry, around.tools) for entry in file.tools),
            limits=_limits(file.limits),
            concurrency=file.concurrency if file.concurrency is not None else msgspec.UNSET,
            auto_approve=file.auto_approve,
            output_schema=file.output_schema,
            fallback_reply=file.fallback_reply if file.fallback_reply is not None else msgspec.UNSET,
            context=budget if budget != Budget() else msgspec.UNSET,
            safety=screening if screening != Screening() else msgspec.UNSET,
            cache=_caching(file.cache) if file.cache is not None else msgspec.UNSET,
        )
    )


def _limits(written: LimitOptions) -> Limits:
    """Those; the default number of tokens is as good as none written."""
    default = written.tokens is None or written.tokens == Limits().most_tokens
    return Limits(
        iterations=written.iterations,
        timeout=written.timeout,
        tokens=msgspec.UNSET if default or written.tokens is None else written.tokens,
        cost_usd=msgspec.UNSET if written.cost_usd is None else written.cost_usd,
    )


def _check_safety(check: Check, file: AgentFile) -> None:
    for index, tool in enumerate(file.safety.reveal or ()):
        if all(entry.name != tool for entry in file.tools):
            check.refuse(("safety", "reveal", str(index)), f"{tool} is none of the agent's tools")


def _screening(written: SafetyOptions, otherwise: Screening) -> Screening:
    return Screening(
        pii=written.pii or otherwise.pii,
        output=written.output or otherwise.output,
        max_input=written.max_input or otherwise.max_input,
        link_hosts=otherwise.link_hosts if written.link_hosts is None else written.link_hosts,
        reveal=msgspec.UNSET if written.reveal is None else written.reveal,
    )


def _check_cache(check: Check, written: CacheOptions, around: Surroundings) -> None:
    if written.ttl is None and ("cache", "ttl") not in check.refused:
        check.refuse(("cache", "ttl"), "missing: the seconds that an answer is given again")
    known_wrong = any(path[:2] == ("cache", "semantic") for path in check.refused)
    if written.semantic is not None and around.embeddings is False and not known_wrong:
        check.refuse(("cache", "semantic"), "needs [embeddings] in steadyhand.toml, which says who makes the vectors")


def _caching(written: CacheOptions) -> Caching:
    assert written.ttl is not None
    return Caching(ttl=written.ttl, threshold=None if written.semantic is None else written.semantic.threshold)


def _check_instructions(check: Check, file: AgentFile, around: Surroundings) -> None:
    if {("prompt",), ("instructions",)} & check.refused:
        return
    if file.prompt is not None and file.instructions is not None:
        check.refuse(("instructions",), "an agent has either prompt or instructions, not both")
    elif file.prompt is not None:
        if file.prompt.partition("@")[0] not in around.broken_prompts:
            try:
                find(around.prompts, file.prompt)
            except LookupError as error:
                check.refuse(("prompt",), str(error.args[0]))
    elif file.instructions is None:
        check.refuse(("prompt",), "missing: an agent needs prompt (a file of prompts/) or instructions (a text)")
    elif names := sorted(placeholders(file.instructions)):
        check.refuse(("instructions",), f"{{{{{names[0]}}}}} is a variable: only a prompt file can declare those")


def _check_schema(check: Check, schema: JsonObject) -> None:
    """A schema that the validator accepts, and whose references all lead to a place within it."""
    kind = (
        validator_for(schema, default=jsonschema.Draft202012Validator)
        if isinstance(schema.get("$schema"), str)
        else jsonschema.Draft202012Validator
    )
    error = best_match(kind(kind.META_SCHEMA, format_checker=kind.FORMAT_CHECKER).iter_errors(schema))
    if error is not None:
        check.refuse(("output_schema", *(str(key) for key in error.absolute_path)), error.message[:200])
        return
    root = specification_with(kind.META_SCHEMA["$schema"]).create_resource(schema)
    resolver = referencing.Registry().resolver_with_root(root)
    pending: list[tuple[tuple[str, ...], Any]] = [(("output_schema",), schema)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str) and not _leads_to_schema(resolver, reference):
                check.refuse((*path, "$ref"), f"{reference} leads to no schema within this one")
            pending += [((*path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            pending += [((*path, str(index)), inner) for index, inner in enumerate(value)]


def _check_reply(check: Check, file: AgentFile) -> None:
    """A reply that says something, and that is what the agent's answers are."""
    if file.fallback_reply is None or ("fallback_reply",) in check.refused:
        return
    if not file.fallback_reply.strip():
        check.refuse(("fallback_reply",), "says nothing")
    elif file.output_schema is not None and not any(path[:1] == ("output_schema",) for path in check.refused):
        problem = _misfit(file.fallback_reply, file.output_schema)
        if problem is not None:
            check.refuse(("fallback_reply",), f"does not fit output_schema: {problem}")


def _misfit(reply: str, schema: JsonObject) -> str | None:
    try:
        value = msgspec.json.decode(reply.encode())
    except (msgspec.DecodeError, RecursionError) as broken:
        return f"it is not valid JSON ({broken})"
    error = best_match(validator_for(schema, default=jsonschema.Draft202012Validator)(schema).iter_errors(value))
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


def _leads_to_schema(resolver: Any, reference: str) -> bool:
    try:
        return isinstance(resolver.lookup(reference).contents, dict | bool)
    except (referencing.exceptions.Unresolvable, LookupError, TypeError, ValueError, AttributeError):
        return False  # the library lets a pointer through a list or a scalar fail in its own ways
