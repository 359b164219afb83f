"""Development: agents and prompts that change on disk are taken over for new runs, without a restart."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from app.api.prompts import Prompts
from app.domain.errors import ConfigError, DatabaseUnavailable
from app.domain.principals import DEFAULT_TENANT
from app.runs.agents import Agents
from app.wiring.prompts import prompt_views
from app.workspace.load import Workspace, reload_workspace

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between looks at the files."""
Stamp = frozenset[tuple[str, int, int]]


class Reloading:
    """Looks at the files of `agents/` and `prompts/`. Settings and tools are as the process began with them.

    A run keeps the version that it began with. While a file is wrong everything stays as it was, and the log says what
    `validate` would.
    """

    def __init__(self, *, workspace: Workspace, agents: Agents, prompts: Prompts) -> None:
        self._workspace = workspace
        self._agents = agents
        self._prompts = prompts
        self._seen: Stamp | None = None

    async def serve(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a look at the workspace broke; the next one follows")
            await asyncio.sleep(EVERY)

    async def look(self) -> bool:
        """Whether the files had changed since the last look, and were taken over."""
        stamp = await asyncio.to_thread(_stamp, self._workspace.folder)
        if stamp == self._seen:
            return False
        try:
            fresh = await asyncio.to_thread(reload_workspace, self._workspace)
            await self._agents.replace(DEFAULT_TENANT, fresh.agents, fresh.experiments)
        except ConfigError as error:
            self._seen = stamp
            for problem in error.problems:
                log.error("%s", problem)
            return False
        except DatabaseUnavailable as error:  # the next look tries again
            log.warning("a changed workspace waits for the database", extra={"reason": str(error)})
            return False
        self._seen = stamp
        self._prompts.current = prompt_views(fresh)
        changed = sorted(name for name, agent in fresh.agents.items() if agent != self._workspace.agents.get(name))
        changed += sorted(self._workspace.agents.keys() - fresh.agents.keys())
        self._workspace = fresh
        if changed:
            log.info("workspace_reloaded", extra={"agents": ", ".join(changed)})
        return True


def reloading_of(workspace: Workspace, agents: Agents, prompts: Prompts) -> Reloading | None:
    """None but in development (no APP_ENV, or APP_ENV=development): what is deployed changes by a deployment."""
    if workspace.settings.profile != "development":
        return None
    return Reloading(workspace=workspace, agents=agents, prompts=prompts)


def _stamp(folder: Path) -> Stamp:
    """What tells one state of the files from another."""
    found = set()
    for path in (*(folder / "agents").glob("*.y*ml"), *(folder / "prompts").glob("*.y*ml")):
        try:
            status = path.stat()
        except OSError:  # gone since
            continue
        found.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(found)
