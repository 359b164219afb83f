"""Experiments with their agents, prompts and routes: what they become, and what is refused at load; hot reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.api.prompts import Prompts
from app.domain.agents import Agent, versioned
from app.domain.principals import DEFAULT_TENANT
from app.runs.agents import Agents
from app.wiring.prompts import prompt_views
from app.wiring.reload import Reloading, reloading_of
from tests.workspace.folders import CHAT, loaded, problems, write

PROMPT = (
    "latest: v1\nversions:\n  v1: {template: 'Hi {{who}}', variables: {who: {default: you}}}\n"
    "  v2: {template: Ho, model: best, temperature: 1}\n  v3: {template: '{{name}}', variables: {name: {}}}\n"
    "  v4: {template: '{{who}}', variables: {who: {type: integer, default: 1}}}\n"
)
ROUTES = '[models.best]\nchain = ["offline/x"]\n'


def folder(tmp_path: Path, text: str, **more: str) -> Path:
    files = {
        "agents__assistant": "description: d\nkind: react\nprompt: p\ntools: [clock]\n",
        "agents__other": CHAT + "temperature: 0.1\n",
        "prompts__p": PROMPT,
        "steadyhand": ROUTES + text,
    }
    return write(tmp_path, **(files | more))


def test_what_variants_become(tmp_path: Path) -> None:
    text = """
        [experiments.e]
        agent = "assistant"
        by = "session"
        salt = "2026"
        variants = [
            { name = "prompt", percent = 10, prompt = "p@v2" },
            { name = "route", percent = 20.5, model = "best" },
            { name = "agent", percent = 30, agent = "other" },
            { name = "all", percent = 1, agent = "other", prompt = "p@v2", model = "default" },
        ]
        shadow = { percent = 5, model = "best" }
    """
    workspace = loaded(folder(tmp_path, text))
    (experiment,) = workspace.experiments
    control = workspace.agents["assistant"]
    prompt, route, agent, everything = (variant.agent for variant in experiment.variants)
    assert (experiment.name, experiment.agent, experiment.by, experiment.salt) == ("e", "assistant", "session", "2026")
    assert [variant.percent for variant in experiment.variants] == [10.0, 20.5, 30.0, 1.0]
    assert (prompt.instructions, prompt.prompt, prompt.model, prompt.temperature) == ("Ho", "p@v2", "best", 1.0)
    assert route == versioned(msgspec.structs.replace(control, model="best", version=""))
    assert (agent.kind, agent.tools, agent.temperature) == ("chat", (), 0.1)
    assert (everything.kind, everything.instructions, everything.model) == ("chat", "Ho", "default")
    assert {variant.agent.name for variant in experiment.variants} == {"assistant"}
    assert len({control.version, *(variant.agent.version for variant in experiment.variants)}) == 5
    assert experiment.shadow is not None
    assert (experiment.shadow.name, experiment.shadow.agent) == ("shadow", route)


E = '[experiments.e]\nagent = "assistant"\n'


def one(variant: str) -> str:
    share = "" if "percent" in variant else "percent = 1, "
    return f"{E}variants = [{{ {share}{variant} }}]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (E, "experiments.e.variants: missing: an experiment has variants, or a shadow, or both"),
        (
            "[experiments.e]\nshadow = { percent = 1, model = 'best' }",
            "experiments.e.agent: missing: the agent that it varies",
        ),
        (
            E.replace("assistant", "nobody") + 'shadow = { percent = 1, model = "best" }',
            "experiments.e.agent: there is no agent 'nobody'; known: assistant, other",
        ),
        (
            one('percent = 1, model = "best"'),
            "experiments.e.variants.0.name: a variant has a name: 1 to 64 of a-z 0-9 _ -",
        ),
        (one('name = "control", model = "best"'), "experiments.e.variants.0.name: control is whoever is in no variant"),
        (
            f'{E}variants = [{{ name = "x", model = "best" }}]',
            "experiments.e.variants.0.percent: missing: how many of all get it; 0 for nobody",
        ),
        (
            f'{E}shadow = {{ model = "best" }}',
            "experiments.e.shadow.percent: missing: of how many runs there is one; 0 for none",
        ),
        (one('name = "x", percent = 1'), "experiments.e.variants.0: names neither prompt, model nor agent"),
        (one('name = "x", percent = 101, model = "best"'), "experiments.e.variants.0.percent: expected float <= 100.0"),
        (
            one('name = "x", weight = 1, model = "best"'),
            "experiments.e.variants.0.weight: unknown; known here: name, percent, prompt, model, agent",
        ),
        (
            one('name = "x", model = "bst"'),
            "experiments.e.variants.0.model: there is no route bst; known: best, default",
        ),
        (one('name = "x", prompt = "q"'), "experiments.e.variants.0.prompt: there is no prompts/q.yaml"),
        (
            one('name = "x", agent = "q"'),
            "experiments.e.variants.0.agent: there is no agent 'q'; known: assistant, other",
        ),
        (
            one('name = "x", prompt = "p@v3"'),
            "experiments.e.variants.0: needs the variable name, which requests to agent assistant need not give",
        ),
        (
            one('name = "x", prompt = "p@v4"'),
            "experiments.e.variants.0: takes who as integer, which agent assistant takes as string",
        ),
        (
            f'{E}variants = [{{ name = "x", percent = 60, model = "best" }}, {{ name = "y", percent = 60, model = "best" }}]',
            "experiments.e.variants: have 120 percent together, which is more than 100",
        ),
        (
            f'{E}variants = [{{ percent = 1, name = "x", model = "best" }}, {{ percent = 1, name = "x", model = "best" }}]',
            "experiments.e.variants.1.name: x is another variant's name",
        ),
        (f"{E}shadow = {{ percent = 1 }}", "experiments.e.shadow: names neither prompt, model nor agent"),
        (
            one('name = "x", model = "best"')
            + '\n[experiments.f]\nagent = "assistant"\nshadow = { percent = 1, model = "best" }',
            "experiments.f.agent: agent assistant is in experiment e already; one at a time",
        ),
        (
            one('name = "x", model = "best"').replace("experiments.e", 'experiments."E!"'),
            "experiments.E!: a name is 1 to 64 of a-z 0-9 _ -, beginning with a letter or a digit",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems(folder(tmp_path, text))
    assert found.partition(": ")[2] == problem


# --- reloading ----------------------------------------------------------------------------------------------------------


class Kept:
    """A `RunStore` that keeps agents."""

    def __init__(self) -> None:
        self.saved: dict[str, Agent] = {}
        self.tenants: set[str] = set()

    async def save_agent(self, tenant: str, agent: Agent) -> None:
        self.tenants.add(tenant)
        self.saved[agent.version] = agent

    async def agent(self, tenant: str, name: str, version: str) -> Agent | None:
        return self.saved.get(version)


def process(path: Path) -> tuple[Reloading, Agents, Prompts, Kept]:
    workspace, store = loaded(path, {"APP_ENV": "development"}), Kept()
    stored: Any = store
    agents = Agents(current=workspace.agents, default="assistant", store=stored, experiments=workspace.experiments)
    prompts = Prompts(prompt_views(workspace))
    reloading = reloading_of(workspace, agents, prompts)
    assert reloading is not None
    return reloading, agents, prompts, store


async def test_changed_files_are_taken_over(tmp_path: Path) -> None:
    path = folder(tmp_path, f'{E}variants = [{{ name = "x", percent = 100, prompt = "p@v2" }}]')
    reloading, agents, prompts, store = process(path)
    before = agents.get("assistant")
    await reloading.look()
    assert agents.get("assistant") == before
    assert not await reloading.look(), "nothing has changed"

    (path / "prompts/p.yaml").write_text(PROMPT.replace("Hi", "Hello").replace("Ho,", "Hohoho,"))
    assert await reloading.look()
    after = agents.get("assistant")
    assert after.instructions == "Hello {{who}}"
    variant = agents.choose("assistant", user_id="ann", session_id="s").agent
    assert variant.instructions == "Hohoho"
    assert {before.version, after.version, variant.version} <= store.saved.keys()
    assert store.tenants == {DEFAULT_TENANT}
    assert await agents.version(DEFAULT_TENANT, "assistant", before.version) == before, "runs that have begun need it"

    (path / "agents/new.yaml").write_text(CHAT)
    (path / "agents/other.yaml").unlink()
    assert await reloading.look()
    assert agents.current.keys() == {"assistant", "new"}
    assert [prompt.name for prompt in prompts.current] == ["p"]


async def test_a_broken_file_changes_nothing_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder(tmp_path, "")
    reloading, agents, _, _ = process(path)
    before = dict(agents.current)
    (path / "agents/assistant.yaml").write_text("prompt: nowhere\n")
    (path / "agents/new.yaml").write_text(CHAT)
    assert not await reloading.look()
    assert not await reloading.look()
    assert agents.current == before
    expected = [f"{path}/{problem}" for problem in problems(path)]
    assert [record.getMessage() for record in caplog.records] == expected
    (path / "agents/assistant.yaml").write_text(CHAT)
    assert await reloading.look()
    assert agents.current.keys() == {"assistant", "other", "new"}


@pytest.mark.parametrize("profile", ["production", "test", "staging"])
def test_only_development_reloads(tmp_path: Path, profile: str) -> None:
    workspace = loaded(folder(tmp_path, ""), {"APP_ENV": profile})
    stored: Any = Kept()
    agents = Agents(current=workspace.agents, default="assistant", store=stored)
    assert reloading_of(workspace, agents, Prompts([])) is None
