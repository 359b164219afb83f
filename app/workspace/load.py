"""A workspace folder, read whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from app.domain.agents import Agent
from app.domain.errors import ConfigError, ConfigProblem
from app.domain.experiments import Experiment
from app.domain.screening import Screening
from app.prompts.registry import Prompt, PromptFile, problems, prompt
from app.settings import Settings, load, read_files, read_secrets
from app.settings.check import Check, Source
from app.tools.declare import DeclaredTool
from app.workspace.agents import NAME, ReadAgent, Surroundings, read_agent
from app.workspace.documents import Document, read
from app.workspace.experiments import read_experiments
from app.workspace.tools import builtin_tools, load_tools

SHIPPED = Path(__file__).parent / "default"
"""The workspace that comes with the product."""


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a folder says. `tools` are the built-in ones and the folder's own; `settings.default_agent` is one of `agents`,
    and the agents of `experiments` are.
    """

    folder: Path
    settings: Settings
    agents: dict[str, Agent]
    prompts: dict[str, Prompt]
    tools: tuple[DeclaredTool, ...]
    experiments: tuple[Experiment, ...] = ()


def load_workspace(folder: Path, environ: Mapping[str, str]) -> Workspace:
    """The workspace of that folder under that environment. Imports its tool files. Raises ConfigError with all that is wrong."""
    if not folder.is_dir():
        raise ConfigError([ConfigProblem(str(folder), "workspace", "there is no such folder")])
    wrong: list[ConfigProblem] = []
    settings: Settings | None = None
    try:
        files = read_files(folder, environ)
        settings = load({**environ, **read_secrets(environ, files)}, files)
    except ConfigError as error:
        wrong += error.problems
    tools, problems_of_tools = load_tools(folder / "tools", builtin_tools())
    wrong += problems_of_tools
    return _defined(folder, settings, tools, not problems_of_tools, wrong)


def reload_workspace(workspace: Workspace) -> Workspace:
    """The same settings and tools with the agents and prompts that the folder has now. Raises ConfigError with all that is wrong."""
    return _defined(workspace.folder, workspace.settings, workspace.tools, True, [])


def _defined(
    folder: Path,
    settings: Settings | None,
    tools: Sequence[DeclaredTool],
    tools_complete: bool,
    wrong: list[ConfigProblem],
) -> Workspace:
    """The workspace, unless something is wrong with it or was before."""
    routes = settings.route_names if settings is not None else None
    prompts, broken = _prompts(folder / "prompts", routes, wrong)
    around = Surroundings(
        routes=routes,
        tiered=frozenset() if settings is None else frozenset(settings.tiers),
        prompts=prompts,
        broken_prompts=frozenset(broken),
        tools={tool.spec.name: tool.spec for tool in tools},
        tools_complete=tools_complete,
        embeddings=settings.embeddings is not None if settings is not None else None,
        screening=Screening() if settings is None else _screening(settings),
    )
    agents, failed = _agents(folder / "agents", around, wrong)
    written = str(folder / "steadyhand.toml")
    if settings is not None and settings.default_agent not in {*agents, *failed}:
        why = f"there is no agents/{settings.default_agent}.yaml; known: {', '.join(agents) or 'none'}"
        wrong.append(ConfigProblem(written, "default_agent", why))
    if wrong or settings is None:
        raise ConfigError(wrong)
    found = {name: read.agent for name, read in agents.items()}
    experiments = read_experiments(
        settings.experiments,
        {name: read.file for name, read in agents.items()},
        found,
        around,
        lambda key, why: wrong.append(ConfigProblem(written, key, why)),
    )
    if wrong:
        raise ConfigError(wrong)
    return Workspace(
        folder=folder, settings=settings, agents=found, prompts=prompts, tools=tuple(tools), experiments=experiments
    )


def _screening(settings: Settings) -> Screening:
    """What holds for agents that say nothing else."""
    safety = settings.safety
    return Screening(pii=safety.pii, output=safety.output, max_input=safety.max_input, link_hosts=safety.link_hosts)


def _prompts(
    folder: Path, routes: frozenset[str] | None, wrong: list[ConfigProblem]
) -> tuple[dict[str, Prompt], list[str]]:
    """The prompts, and the names of those whose files do not load."""
    found: dict[str, Prompt] = {}
    broken: list[str] = []
    for name, document in _documents(folder, broken, wrong):
        check = Check(source=Source(where=document.where))
        if not NAME.fullmatch(name):
            check.refuse((), "a prompt's file is named by 1 to 64 of a-z 0-9 _ -, beginning with a letter or a digit")
        written = check.fits(PromptFile, document.data)
        if not check.problems:
            file = msgspec.convert(written, PromptFile)
            for path, why in problems(file):
                check.refuse(path, why)
            for number, version in file.versions.items():
                if routes is not None and version.model is not None and version.model not in routes:
                    check.refuse(("versions", number, "model"), f"there is no route {version.model}")
        if check.problems:
            wrong += check.problems
            broken.append(name)
        else:
            found[name] = prompt(name, file)
    return found, broken


def _agents(folder: Path, around: Surroundings, wrong: list[ConfigProblem]) -> tuple[dict[str, ReadAgent], list[str]]:
    """The agents, and the names of those whose files do not load."""
    found: dict[str, ReadAgent] = {}
    failed: list[str] = []
    for name, document in _documents(folder, failed, wrong):
        agent, its_problems = read_agent(name, document, around)
        wrong += its_problems
        if agent is None:
            failed.append(name)
        else:
            found[name] = agent
    return found, failed


def _documents(folder: Path, broken: list[str], wrong: list[ConfigProblem]) -> Iterator[tuple[str, Document]]:
    """Every YAML file of the folder by name; the names of those that cannot be read go to `broken`."""
    for path in sorted(folder.glob("*.y*ml")):
        if path.suffix != ".yaml":
            wrong.append(ConfigProblem(str(path), "file name", "must end in .yaml"))
            continue
        try:
            if not path.is_file():
                raise ConfigError([ConfigProblem(str(path), "cannot be read", "it is not a file")])
            yield path.stem, read(path)
        except ConfigError as error:
            wrong += error.problems
            broken.append(path.stem)
