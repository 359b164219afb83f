"""`@tool`: a function with a typed signature becomes something that a model can call.

The decorator marks the function and leaves it callable as it was; `declared` reads a module's marked functions.
Types are resolved only there, so that a tool may name a type which its file defines further down.
"""

from __future__ import annotations

import copy
import enum
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Annotated, Any, TypeVar, cast, overload

import msgspec

from app.domain.messages import JsonObject
from app.domain.tools import RISKS, Effect, Returns, Risk, ToolContext, ToolSpec

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__steadyhand_tool__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI and Anthropic accept
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*$")
_ARGUMENT = re.compile(r"(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


class ToolDeclarationError(TypeError):
    """A function cannot be a tool as it is written; `line` of `file` is where it begins."""

    def __init__(self, function: Callable[..., Any], reason: str) -> None:
        super().__init__(f"tool {getattr(function, '__name__', function)!s}: {reason}")
        code = getattr(inspect.unwrap(function), "__code__", None)
        self.file: str = code.co_filename if code else ""
        self.line: int = code.co_firstlineno if code else 0


class DeclaredTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool ready to run: `arguments` is the Struct that its JSON arguments decode into, `contexts` the parameters that take the `ToolContext`."""

    spec: ToolSpec
    function: Callable[..., Any]
    arguments: type[msgspec.Struct]
    contexts: tuple[str, ...] = ()


class _Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the decorator was told."""

    name: str
    risk: Risk
    effect: Effect
    timeout: float
    retry: int
    polls: bool
    returns: Returns


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    risk: Risk = "high",
    effect: Effect = "write",
    timeout: float = 30.0,
    retry: int = 0,
    polls: bool = False,
    returns: Returns = "untrusted",
) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    risk: Risk = "high",
    effect: Effect = "write",
    timeout: float = 30.0,
    retry: int = 0,
    polls: bool = False,
    returns: Returns = "untrusted",
) -> F | Callable[[F], F]:
    """Mark a function as a tool. Bare, it is a `write` of `high` risk: what nobody thought about needs a person.

    `timeout` is seconds for one call with all its repetitions; `retry` is how many repetitions may follow a failure, and
    only `read` and `idempotent` tools may be repeated. `polls`: models may call it with the same result many times, since it looks at
    something that takes its time. `returns` says whose words the result can hold: `trusted` is for tools that give back nothing
    which somebody else could have written (no pages, mails, files, rows). Raises ToolDeclarationError for anything that cannot work.
    """

    def mark(target: F) -> F:
        policy = _Policy(
            name=getattr(target, "__name__", "") if name is None else name,
            risk=risk,
            effect=effect,
            timeout=timeout,
            retry=retry,
            polls=polls,
            returns=returns,
        )
        if problem := _policy_problem(policy) or _function_problem(target):
            raise ToolDeclarationError(target, problem)
        setattr(target, _MARK, policy)
        return target

    return mark if function is None else mark(function)


def declared(module: ModuleType) -> list[DeclaredTool]:
    """The tools that `module` itself defines, in the order of their definition; imported ones belong to their own module.

    Raises ToolDeclarationError for a signature that gives no schema, and for a name used twice.
    """
    found: dict[str, DeclaredTool] = {}
    for value in dict.fromkeys(v for v in vars(module).values() if isinstance(v, FunctionType)):
        if not hasattr(value, _MARK) or value.__module__ != module.__name__:
            continue
        entry = declare(value)
        if entry.spec.name in found:
            raise ToolDeclarationError(value, f"the name {entry.spec.name} is taken by another tool of this file")
        found[entry.spec.name] = entry
    return list(found.values())


def declare(function: Callable[..., Any]) -> DeclaredTool:
    """The tool that a marked function is. Raises ToolDeclarationError where its signature gives no schema."""
    policy = cast("_Policy", getattr(function, _MARK))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ToolDeclarationError(function, f"an annotation cannot be resolved: {error}") from error
    documentation = inspect.getdoc(function) or ""
    described = dict(_described(documentation))
    contexts: list[str] = []
    fields: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if _bare(hint) is ToolContext:
            contexts.append(parameter.name)
            continue
        if (text := described.get(parameter.name)) and not _has_description(hint):
            hint = Annotated[hint, msgspec.Meta(description=text)]
        fields.append((parameter.name, hint, _default(parameter)))
    try:
        arguments = msgspec.defstruct("_Arguments", fields, kw_only=True, forbid_unknown_fields=True, module=__name__)
        schema = _schema(arguments)
    except (TypeError, ValueError) as error:
        raise ToolDeclarationError(function, f"its parameters have no JSON Schema: {error}") from error
    spec = ToolSpec(
        name=policy.name,
        description=_first_paragraph(documentation),
        schema=schema,
        risk=policy.risk,
        effect=policy.effect,
        timeout=policy.timeout,
        retry=policy.retry,
        polls=True if policy.polls else msgspec.UNSET,
        returns=msgspec.UNSET if policy.returns == "untrusted" else policy.returns,
    )
    return DeclaredTool(spec=spec, function=function, arguments=arguments, contexts=tuple(contexts))


def _policy_problem(policy: _Policy) -> str | None:
    if not _NAME.fullmatch(policy.name):
        return f"the name {policy.name!r} must be 1 to 64 of A-Z a-z 0-9 _ -"
    if policy.risk not in RISKS:
        return f"risk {policy.risk!r} must be one of {', '.join(RISKS)}"
    if policy.effect not in typing.get_args(Effect):
        return f"effect {policy.effect!r} must be one of {', '.join(typing.get_args(Effect))}"
    if policy.returns not in typing.get_args(Returns):
        return f"returns {policy.returns!r} must be one of {', '.join(typing.get_args(Returns))}"
    if not 0 < policy.timeout < float("inf"):
        return f"timeout {policy.timeout!r} must be a positive number of seconds"
    if policy.retry < 0:
        return f"retry {policy.retry!r} must not be negative"
    if policy.retry and policy.effect == "write":
        return "retry is allowed for the effects read and idempotent only: a write that failed may have happened"
    return None


def _function_problem(function: Callable[..., Any]) -> str | None:
    if not isinstance(function, FunctionType):
        return "@tool goes on a plain function"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "a generator cannot be a tool: return one value, and show progress with ctx.emit"
    if not _first_paragraph(inspect.getdoc(function) or ""):
        return "it has no docstring, whose first paragraph is what the model reads"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"*{parameter.name} has no schema: name every parameter"
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return f"parameter {parameter.name} is positional-only, but arguments come by name"
        if parameter.annotation is parameter.empty:
            return f"parameter {parameter.name} has no type annotation"
    return None


def _schema(arguments: type[msgspec.Struct]) -> JsonObject:
    """JSON Schema with `type: object` at its root, as both vendors want it; the named types it uses are in `$defs`."""
    (_,), definitions = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    root: JsonObject = definitions.pop(arguments.__name__)
    root.pop("title", None)
    if definitions:
        root["$defs"] = definitions
    return root


def _default(parameter: inspect.Parameter) -> Any:
    value = parameter.default
    if value is parameter.empty:
        return msgspec.NODEFAULT
    if value is None or isinstance(value, (str, int, float, enum.Enum)) or value in ([], {}):
        return value
    return msgspec.field(default_factory=functools.partial(copy.deepcopy, value))


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _has_description(hint: Any) -> bool:
    return any(isinstance(meta, msgspec.Meta) and meta.description for meta in getattr(hint, "__metadata__", ()))


def _first_paragraph(documentation: str) -> str:
    paragraph = re.split(r"\n\s*\n", documentation.strip(), maxsplit=1)[0]
    return "" if _SECTION.match(paragraph.split("\n", 1)[0]) else " ".join(paragraph.split())


def _described(documentation: str) -> Iterator[tuple[str, str]]:
    """Parameter and text of each entry of a Google-style `Args:` section."""
    entry: tuple[str, str] | None = None
    indent: int | None = None
    inside = False
    for line in documentation.splitlines():
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if depth == 0:
            inside, indent = line.strip() in ("Args:", "Arguments:", "Parameters:"), None
        elif inside:
            indent = depth if indent is None else indent
            if depth == indent and (match := _ARGUMENT.match(line.strip())):
                if entry:
                    yield entry
                entry = (match[1], match[2])
            elif entry:
                entry = (entry[0], f"{entry[1]} {line.strip()}".strip())
    if entry:
        yield entry
