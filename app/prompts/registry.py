"""Prompt files: numbered versions of one template each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from app.domain.agents import Variable
from app.prompts.render import has_type, placeholders

_VERSION = re.compile(r"v[1-9][0-9]{0,8}")

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class PromptVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version as written. `model` and `temperature` go before those of the agent."""

    template: Text
    changelog: str = ""
    variables: dict[str, Variable] | tuple[str, ...] = {}
    model: str | None = None
    temperature: Temperature | None = None

    def declared(self) -> dict[str, Variable]:
        """The variables by name; those of a bare list of names are strings that must be given."""
        if isinstance(self.variables, dict):
            return self.variables
        return {name: Variable() for name in self.variables}


class PromptFile(msgspec.Struct, frozen=True, kw_only=True):
    """prompts/NAME.yaml as written."""

    versions: dict[str, PromptVersion]
    latest: str | None = None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt by name. `latest` is one of its `versions`."""

    name: str
    versions: dict[str, PromptVersion]
    latest: str


def prompt(name: str, file: PromptFile) -> Prompt:
    """The prompt of a file without problems. Where none is named, the highest number is the latest: v10 after v9."""
    return Prompt(name=name, versions=file.versions, latest=file.latest or max(file.versions, key=lambda v: int(v[1:])))


def problems(file: PromptFile) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong in a file of the right shape: the key's path, and why."""
    found: list[tuple[tuple[str, ...], str]] = []
    if not file.versions:
        found.append((("versions",), "has no version"))
    for number, version in file.versions.items():
        path = ("versions", number)
        if not _VERSION.fullmatch(number):
            found.append((path, "a version is named v1, v2, …"))
        declared = version.declared()
        wanted = placeholders(version.template)
        undeclared = sorted(wanted - declared.keys())
        found += [((*path, "template"), f"{{{{{name}}}}} is not declared in variables") for name in undeclared]
        for name, variable in declared.items():
            here = (*path, "variables", name)
            if name not in wanted:
                found.append((here, f"{name} is declared but {{{{{name}}}}} is not in the template"))
            if variable.default is not None and not has_type(variable, variable.default):
                found.append(((*here, "default"), f"must be of type {variable.type}"))
    if file.latest is not None and file.latest not in file.versions:
        found.append((("latest",), f"{file.latest} is none of the versions: {', '.join(file.versions)}"))
    return found


def find(prompts: Mapping[str, Prompt], reference: str) -> tuple[str, PromptVersion]:
    """The version that `name`, `name@latest` or `name@v2` means, and its full name (`name@v2`). Raises LookupError that says what is missing."""
    name, at, version = reference.partition("@")
    if name not in prompts:
        raise LookupError(f"there is no prompts/{name}.yaml")
    found = prompts[name]
    if not at or version == "latest":
        version = found.latest
    if version not in found.versions:
        raise LookupError(f"prompt {name} has no version {version!r}; it has {', '.join(found.versions)}")
    return f"{name}@{version}", found.versions[version]
