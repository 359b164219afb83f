"""Prompts as the API shows them."""

from __future__ import annotations

from app.api.schemas import PromptVersionView, PromptView
from app.prompts.registry import Prompt
from app.workspace.load import Workspace


def prompt_views(workspace: Workspace) -> list[PromptView]:
    """Every prompt of the workspace, by name."""
    return [_view(prompt, workspace) for _, prompt in sorted(workspace.prompts.items())]


def _view(prompt: Prompt, workspace: Workspace) -> PromptView:
    used = {
        agent.name: agent.prompt.partition("@")[2]
        for agent in workspace.agents.values()
        if agent.prompt is not None and agent.prompt.partition("@")[0] == prompt.name
    }
    return PromptView(
        name=prompt.name,
        latest=prompt.latest,
        versions=[
            PromptVersionView(
                version=number,
                changelog=version.changelog,
                variables=version.declared(),
                model=version.model,
                temperature=version.temperature,
            )
            for number, version in sorted(prompt.versions.items(), key=lambda item: int(item[0][1:]))
        ],
        agents=used,
    )
