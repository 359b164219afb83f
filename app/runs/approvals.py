"""People's decisions on calls that must not run without one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from app.agent import structured
from app.domain import events as ev
from app.domain.approvals import Approval, ApprovalStatus, ApprovalStore, Decision
from app.domain.errors import FieldError, RequestError
from app.domain.hints import Hints
from app.domain.messages import JsonObject
from app.domain.principals import Principal
from app.domain.stores import RunStore
from app.runs.agents import Agents
from app.safety.arguments import refused

BATCH = 100
"""Approvals that one look lets expire."""
_DECISIONS: dict[str, Decision] = {"approve": "approved", "deny": "denied"}


class ApprovalService:
    """Lists approvals and decides them. Safe for concurrent use."""

    def __init__(self, *, store: ApprovalStore, runs: RunStore, agents: Agents, broadcast: Hints) -> None:
        self._store = store
        self._runs = runs
        self._agents = agents
        self._broadcast = broadcast

    async def approvals(
        self,
        principal: Principal,
        status: ApprovalStatus | None,
        run_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Approval]:
        """A page of approvals, newest first; `before` is (created_at, id) of the last one already seen."""
        return await self._store.approvals(principal, status, run_id, before, limit)

    async def approval(self, principal: Principal, approval_id: str) -> Approval:
        """An approval. Raises `RequestError` not_found."""
        approval = await self._store.approval(principal, approval_id)
        if approval is None:
            raise RequestError("not_found", f"There is no approval {approval_id!r}.")
        return approval

    async def decide(
        self,
        principal: Principal,
        approval_id: str,
        decision: Literal["approve", "deny"],
        arguments: JsonObject | None,
        comment: str | None,
    ) -> Approval:
        """Decide it, once: the run goes on when none of its approvals is open. `arguments` replace the model's, whole.

        The same decision again changes nothing. Raises `RequestError`: not_found; approval_resolved where it was decided
        otherwise, has expired or its run has ended; validation_error for arguments that the tool would not take.
        """
        approval = await self.approval(principal, approval_id)
        if arguments is not None:
            await self._check(principal, approval, decision, arguments)
        if approval.status == "pending":
            status = _DECISIONS[decision]
            edited = None if arguments is None else msgspec.json.encode(arguments)
            resolved = ev.ApprovalResolved(
                approval_id=approval.id,
                call_id=approval.call_id,
                decision=status,
                by=principal.user,
                comment=comment,
                arguments=None if edited is None else edited.decode(),
            )
            if await self._resolve(approval.run_id, resolved, edited):
                return await self.approval(principal, approval_id)
            approval = await self.approval(principal, approval_id)
        if approval.status != _DECISIONS[decision] or approval.edited != arguments:
            said = "has expired" if approval.status in ("pending", "expired") else f"is {approval.status} already"
            raise RequestError("approval_resolved", f"This approval {said}.")
        return approval

    async def _check(self, principal: Principal, approval: Approval, decision: str, arguments: JsonObject) -> None:
        if decision == "deny":
            raise _wrong("a denial has no arguments")
        run = await self._runs.run(principal, approval.run_id)
        agent = run and await self._agents.version(principal.tenant, run.agent, run.agent_version)
        spec = agent.tool(approval.tool) if agent else None
        if spec is not None:
            text = msgspec.json.encode(arguments).decode()
            _, problem = structured.read(text, spec.schema)
            problem = problem or refused(spec, text)
            if problem is not None:
                raise _wrong(problem)

    async def expire(self) -> None:
        """Approvals whose time is over count as denied; their runs go on."""
        for run_id, pending in await self._store.expired(BATCH):
            resolved = ev.ApprovalResolved(approval_id=pending.id, call_id=pending.call_id, decision="expired")
            await self._resolve(run_id, resolved, None)

    async def _resolve(self, run_id: str, event: ev.ApprovalResolved, edited: bytes | None) -> bool:
        resolved = await self._store.resolve(
            event.approval_id, event.decision, event.by, event.comment, edited, msgspec.json.encode(event)
        )
        if resolved is None:
            return False
        self._broadcast.wrote(run_id)
        if resolved[2]:
            self._broadcast.queued()
        return True


def _wrong(why: str) -> RequestError:
    return RequestError("validation_error", f"`arguments`: {why}.", [FieldError("arguments", why)])
