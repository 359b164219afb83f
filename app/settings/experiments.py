"""[experiments.NAME] as written. What agents and prompts they name is looked up with the workspace."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec

from app.domain.experiments import CONTROL, Subject

KeyPath = tuple[str, ...]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class VariantOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One variant: another prompt, route or agent in the place of the agent's own. Percentages have two decimals."""

    name: str = ""
    percent: Percent | None = None
    prompt: str | None = None
    model: str | None = None
    agent: str | None = None

    @property
    def changes(self) -> bool:
        """Whether it is another thing than the agent."""
        return self.prompt is not None or self.model is not None or self.agent is not None


class ExperimentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment. Without a `salt` its name is it. `shadow` needs no name."""

    agent: str = ""
    by: Subject = "user"
    salt: str | None = None
    variants: tuple[VariantOptions, ...] = ()
    shadow: VariantOptions | None = None


def check_experiments(written: Mapping[str, ExperimentOptions], wrong: Callable[[KeyPath, str], None]) -> None:
    """`wrong` is told what cannot be, whatever agents there are."""
    agents: dict[str, str] = {}
    for name, experiment in written.items():
        path = ("experiments", name)
        if not _NAME.fullmatch(name):
            wrong(path, "a name is 1 to 64 of a-z 0-9 _ -, beginning with a letter or a digit")
        if not experiment.agent:
            wrong((*path, "agent"), "missing: the agent that it varies")
        elif (other := agents.setdefault(experiment.agent, name)) != name:
            wrong((*path, "agent"), f"agent {experiment.agent} is in experiment {other} already; one at a time")
        if not experiment.variants and experiment.shadow is None:
            wrong((*path, "variants"), "missing: an experiment has variants, or a shadow, or both")
        _check_variants(experiment, path, wrong)


def _check_variants(experiment: ExperimentOptions, path: KeyPath, wrong: Callable[[KeyPath, str], None]) -> None:
    seen = {CONTROL}
    for n, variant in enumerate(experiment.variants):
        here = (*path, "variants", str(n))
        if not _NAME.fullmatch(variant.name):
            wrong((*here, "name"), "a variant has a name: 1 to 64 of a-z 0-9 _ -")
        elif variant.name in seen:
            why = "is whoever is in no variant" if variant.name == CONTROL else "is another variant's name"
            wrong((*here, "name"), f"{variant.name} {why}")
        seen.add(variant.name)
        if not variant.changes:
            wrong(here, "names neither prompt, model nor agent")
        if variant.percent is None:
            wrong((*here, "percent"), "missing: how many of all get it; 0 for nobody")
    total = sum(variant.percent or 0.0 for variant in experiment.variants)
    if total > 100.000001:
        wrong((*path, "variants"), f"have {total:g} percent together, which is more than 100")
    if (shadow := experiment.shadow) is not None:
        if not shadow.changes:
            wrong((*path, "shadow"), "names neither prompt, model nor agent")
        if shadow.percent is None:
            wrong((*path, "shadow", "percent"), "missing: of how many runs there is one; 0 for none")
