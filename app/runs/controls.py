"""All that the outside may do with switches."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from app.domain.controls import Control, ControlKind, ControlStore
from app.domain.errors import RequestError
from app.domain.principals import DEFAULT_TENANT, Principal
from app.runs.agents import Agents
from app.runs.switches import Switches


class ControlService:
    """Switches things off and on for a principal's own tenant. Safe for concurrent use."""

    def __init__(self, *, store: ControlStore, switches: Switches, agents: Agents) -> None:
        self._store = store
        self._switches = switches
        self._agents = agents

    async def controls(self, principal: Principal) -> list[Control]:
        """What is off for the principal's tenant, by itself or for everybody."""
        return await self._store.controls(principal.tenant)

    async def disable(self, principal: Principal, kind: ControlKind, name: str, reason: str | None) -> Control:
        """Switch that off for the principal's tenant: in this process at once, in every other within a second.

        Nothing new of it begins, what is queued ends when its turn comes, what is running is stopped, and calls of a tool are denied.
        Raises `RequestError` not_found for what is not there: nobody shall believe that something is off that has another name.
        """
        if (problem := await unknown(self._store, kind, name, principal.tenant, self._agents)) is not None:
            raise RequestError("not_found", problem)
        control = await self._store.disable(principal, "tenant", kind, name, reason)
        await self._switches.look()
        return control

    async def enable(self, principal: Principal, kind: ControlKind, name: str) -> None:
        """Switch that on again for the principal's tenant. Raises `RequestError` not_found where the tenant did not switch it off."""
        if not await self._store.enable(principal, "tenant", kind, name):
            raise RequestError("not_found", f"{kind.capitalize()} {name} was not switched off by this tenant.")
        await self._switches.look()


async def unknown(store: ControlStore, kind: ControlKind, name: str, tenant: str | None, agents: Agents) -> str | None:
    """What is wrong with that name; None: nothing. `tenant` None: any tenant may be meant.

    An agent and a tool are known that a run may still have: of a current definition, a variant's too, or of a former version.
    """
    if kind == "tenant":
        if tenant in (None, name):
            return None
        return "A tenant can only switch itself off; all others are switched off on the machine of the service."
    known = set(agents.current)
    if kind == "tool":
        known = {spec.name for agent in agents.definitions() for spec in agent.tools}
    problem = _missing(kind, name, known)
    return None if problem is None or await store.stored(tenant, kind, name) else problem


async def unseen(store: ControlStore, tenant: str) -> str | None:
    """Why nobody is known to be called so; None: somebody is. Nothing is of a tenant whose tokens nobody has sent yet, either."""
    if tenant == DEFAULT_TENANT or await store.seen(tenant):
        return None
    return f"No key, session, run or batch is of a tenant {tenant!r}."


def _missing(kind: str, name: str, known: Iterable[str]) -> str | None:
    names = sorted(known)
    if name in names:
        return None
    near = get_close_matches(name, names, n=1)
    return f"There is no {kind} {name!r}. " + (
        f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
    )
