"""From files and variables to `Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import msgspec

from app.domain.errors import ConfigError, ConfigProblem
from app.settings.check import Check, KeyPath
from app.settings.layers import (
    Layer,
    Variable,
    contains,
    dotenv,
    environment,
    merge,
    spelled_twice,
    toml_layer,
    variable_layers,
)
from app.settings.options import BUILTIN_PROVIDERS, NOT_YET, Options, Secret
from app.settings.resolve import Resolution
from app.settings.resolved import Settings

MAX_BYTES = 1_000_000
"""A settings file larger than this is a mistake."""


def read_files(folder: Path, environ: Mapping[str, str], *, current: Path | None = None) -> dict[str, str]:
    """The texts of the settings files that are there, for `load`: those of `folder`, and in development also `.env` of the
    current folder, which wins over one in `folder`. Raises ConfigError for a file that cannot be read.
    """
    profile = environ.get("APP_ENV") or "development"
    paths = [folder / "steadyhand.toml"]
    if not _profile_problem(profile):
        paths.append(folder / f"steadyhand.{profile}.toml")
    if profile == "development":
        paths += dict.fromkeys(place.resolve() / ".env" for place in (folder, current or Path.cwd()))
    found: dict[str, str] = {}
    problems: list[ConfigProblem] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                problems.append(ConfigProblem(str(path), "too large", f"at most {MAX_BYTES} bytes"))
            found[str(path)] = data.decode("utf-8-sig")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(ConfigProblem(str(path), "cannot be read", str(error)))
    if problems:
        raise ConfigError(problems)
    return found


def load(mapping: Mapping[str, str], files: Mapping[str, str]) -> Settings:
    """The settings that these environment variables and file texts make. Raises ConfigError with everything that is wrong.

    `files` are named by path; only `steadyhand.toml`, the profile's file and, in development, `.env` count. `.env` is below
    the real environment, variable by variable.
    """
    problems: list[ConfigProblem] = []
    profile = mapping.get("APP_ENV") or "development"
    if problem := _profile_problem(profile):
        problems.append(problem)
    layers, variables = _layers(mapping, files, profile, problems)
    merged: dict[str, Any] = {"providers": BUILTIN_PROVIDERS}
    refused: set[KeyPath] = set()
    for layer in layers:
        check = Check(source=layer.source, not_yet=NOT_YET)
        table = check.fits(Options, layer.table)
        merged = merge(merged, table, any_case=layer.source.text)
        problems += check.problems
        refused |= check.refused

    def where(path: KeyPath) -> str:
        while path:
            for layer in reversed(layers):
                if contains(layer.table, path):
                    return layer.source.where(path)
            path = path[:-1]
        return "steadyhand.toml"

    options = msgspec.convert(merged, Options, dec_hook=lambda _, value: Secret(value))
    environ = {name: variable.text for name, variable in variables.items()}
    resolution = Resolution(environ=environ, where=where, refused=refused)
    settings = resolution.settings(options, profile)
    problems += resolution.problems
    if problems:
        raise ConfigError(problems)
    extra = {
        name: Secret(variable.text) for name, variable in variables.items() if name not in mapping and variable.text
    }
    return msgspec.structs.replace(settings, dotenv=extra)


def _layers(
    mapping: Mapping[str, str], files: Mapping[str, str], profile: str, problems: list[ConfigProblem]
) -> tuple[list[Layer], dict[str, Variable]]:
    layers: list[Layer] = []
    dotenvs: list[dict[str, Variable]] = []
    for kind in ("steadyhand.toml", f"steadyhand.{profile}.toml", ".env"):
        for name in (name for name in files if PurePath(name).name == kind):
            try:
                if kind != ".env":
                    layers.append(toml_layer(name, files[name]))
                elif profile == "development":
                    found, wrong = dotenv(name, files[name])
                    dotenvs.append(found)
                    problems += wrong
            except ConfigError as error:
                problems += error.problems
    for variables in dotenvs:
        if (chosen := variables.get("APP_ENV")) and chosen.text not in ("", "development"):
            why = ".env is read in development only; set APP_ENV in the environment"
            problems.append(ConfigProblem(chosen.where, "APP_ENV", why))
    variables = environment(mapping, dotenvs)
    problems += spelled_twice(variables)
    below = {name: variable for name, variable in variables.items() if name not in mapping}
    above = {name: variable for name, variable in variables.items() if name in mapping}
    return [*layers, *variable_layers(below), *variable_layers(above)], variables


def _profile_problem(profile: str) -> ConfigProblem | None:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", profile):
        return None
    return ConfigProblem("APP_ENV", "cannot be a profile", "use A-Z a-z 0-9 _ - only")
