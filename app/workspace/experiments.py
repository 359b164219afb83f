"""Experiments with the agents that they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.domain.agents import Agent
from app.domain.experiments import Experiment, Variant
from app.prompts.registry import find
from app.settings.experiments import ExperimentOptions, VariantOptions
from app.workspace.agents import AgentFile, Surroundings, varied

SHADOW = "shadow"
"""The variant's name of a shadow that was given none."""
Wrong = Callable[[str, str], None]


def read_experiments(
    written: Mapping[str, ExperimentOptions],
    files: Mapping[str, AgentFile],
    agents: Mapping[str, Agent],
    around: Surroundings,
    wrong: Wrong,
) -> tuple[Experiment, ...]:
    """Every experiment, resolved; `wrong` is told of a dotted key what is wrong with it. `files` are those that `agents` are made of."""
    found = []
    for name, options in written.items():
        path = f"experiments.{name}"
        if options.agent not in agents:
            wrong(f"{path}.agent", f"there is no agent {options.agent!r}; known: {', '.join(agents) or 'none'}")
            continue

        def variant(given: VariantOptions, path: str, agent: str = options.agent) -> Variant | None:
            made = _variant(given, agent, files, around, agents[agent], lambda key, why: wrong(f"{path}{key}", why))
            return (
                None if made is None else Variant(name=given.name or SHADOW, percent=given.percent or 0.0, agent=made)
            )

        variants = [variant(given, f"{path}.variants.{n}") for n, given in enumerate(options.variants)]
        shadow = None if options.shadow is None else variant(options.shadow, f"{path}.shadow")
        found.append(
            Experiment(
                name=name,
                agent=options.agent,
                salt=name if options.salt is None else options.salt,
                by=options.by,
                variants=tuple(made for made in variants if made is not None),
                shadow=shadow,
            )
        )
    return tuple(found)


def _variant(
    given: VariantOptions, name: str, files: Mapping[str, AgentFile], around: Surroundings, control: Agent, wrong: Wrong
) -> Agent | None:
    """The agent of that name as the variant has it."""
    base = given.agent or name
    if base not in files:
        wrong(".agent", f"there is no agent {base!r}; known: {', '.join(files)}")
        return None
    if given.model is not None and around.routes is not None and given.model not in around.routes:
        wrong(".model", f"there is no route {given.model}; known: {', '.join(sorted(around.routes))}")
        return None
    if given.prompt is not None:
        try:
            find(around.prompts, given.prompt)
        except LookupError as error:
            wrong(".prompt", str(error.args[0]))
            return None
    agent = varied(name, files[base], around, prompt=given.prompt, model=given.model)
    if (problem := _misfit(agent, control)) is not None:
        wrong("", problem)
        return None
    return agent


def _misfit(agent: Agent, control: Agent) -> str | None:
    """Why a request that fits the agent might not fit the variant: one person's 422 must not be another's answer."""
    for name, variable in agent.variables.items():
        own = control.variables.get(name)
        if own is not None and own.type != variable.type:
            return f"takes {name} as {variable.type}, which agent {control.name} takes as {own.type}"
        if variable.default is None and (own is None or own.default is not None):
            return f"needs the variable {name}, which requests to agent {control.name} need not give"
    return None
