"""People's decisions on calls that must not run without one."""

from __future__ import annotations

from typing import Literal

import msgspec

from app.agent import structured
from app.domain import events as ev
from app.domain.approvals import (
    SYSTEM,
    Approval,
    ApprovalFilter,
    ApprovalStore,
    Decision,
    Verdict,
    digest,
)
from app.domain.changes import changes
from app.domain.errors import FieldError, RequestError
from app.domain.hints import Hints
from app.domain.messages import JsonObject
from app.domain.observers import RunObserver
from app.domain.principals import Principal
from app.domain.stores import RunStore
from app.domain.tools import RISKS, Risk
from app.runs.agents import Agents
from app.safety.arguments import refused

BATCH = 100
"""Approvals that one look lets expire."""
_DECISIONS: dict[str, Decision] = {"approve": "approved", "deny": "denied"}


class ApprovalService:
    """Lists approvals and decides them. Safe for concurrent use.

    `four_eyes`: from that risk on nobody approves what is done for themselves, or what they asked for, on whoever's behalf: neither
    with the same key or token nor as the same user; None: everybody may who has the scope.
    """

    def __init__(
        self,
        *,
        store: ApprovalStore,
        runs: RunStore,
        agents: Agents,
        observer: RunObserver,
        broadcast: Hints,
        four_eyes: Risk | None = None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._agents = agents
        self._observer = observer
        self._broadcast = broadcast
        self._four_eyes = four_eyes

    async def approvals(self, principal: Principal, wanted: ApprovalFilter) -> list[Approval]:
        """A page of approvals, newest first."""
        return await self._store.approvals(principal, wanted)

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
        """Decide it, once: the run goes on when none of its approvals is open. `arguments` replace the model's, whole; the same ones are no edit.

        The same decision again changes nothing. Raises `RequestError`: not_found; forbidden; approval_resolved where it was decided
        otherwise, has expired or its run has ended; validation_error for arguments that the tool would not take.
        """
        approval = await self.approval(principal, approval_id)
        self._check_may(principal, approval, decision)
        if decision == "approve" and self._asks_another(approval):
            await self._check_other(principal, approval)
        if arguments is not None:
            await self._check(principal, approval, decision, arguments)
            if not changes(approval.arguments, arguments):
                arguments = None
        if approval.status == "pending":
            if await self._resolve(_verdict(principal, approval, _DECISIONS[decision], arguments, comment)):
                return await self.approval(principal, approval_id)
            approval = await self.approval(principal, approval_id)
        if approval.status != _DECISIONS[decision] or changes(approval.edited, arguments):
            said = "has expired" if approval.status in ("pending", "expired") else f"is {approval.status} already"
            raise RequestError("approval_resolved", f"This approval {said}.")
        return approval

    def _check_may(self, principal: Principal, approval: Approval, decision: str) -> None:
        """What is critical needs another scope to be approved; whoever may decide on anything may deny it."""
        if not principal.may("approvals"):
            raise RequestError("forbidden", "Deciding on calls needs the scope `approvals`.")
        if decision == "deny":
            return
        if approval.risk == "critical" and not principal.may("approvals.critical"):
            raise RequestError("forbidden", "Approving a critical call needs the scope `approvals.critical`, too.")

    def _asks_another(self, approval: Approval) -> bool:
        return self._four_eyes is not None and RISKS.index(approval.risk) >= RISKS.index(self._four_eyes)

    async def _check_other(self, principal: Principal, approval: Approval) -> None:
        """Whoever approves is not who asked for the run, and not the user whose run it is."""
        events = await self._runs.events(approval.run_id, 0, 1)
        if not events:
            raise RequestError("not_found", f"There is no approval {approval.id!r} any more.")
        created = msgspec.json.decode(events[0].payload, type=ev.RunCreated)
        users = {approval.user_id, created.by or None}
        if created.actor == principal.actor or (principal.user is not None and principal.user in users):
            detail = f"A call of risk {approval.risk} is approved by somebody else than who asked for the run, or whose it is."
            raise RequestError("forbidden", detail)

    async def _check(self, principal: Principal, approval: Approval, decision: str, arguments: JsonObject) -> None:
        if decision == "deny":
            raise _wrong("a denial has no arguments")
        run = await self._runs.run(principal, approval.run_id)
        agent = run and await self._agents.version(principal.tenant, run.agent, run.agent_version)
        spec = agent.tool(approval.tool) if agent else None
        if spec is None:
            raise _wrong(f"the agent has no tool {approval.tool} that could say whether they fit")
        text = msgspec.json.encode(arguments).decode()
        _, problem = structured.read(text, spec.schema)
        problem = problem or refused(spec, text)
        if problem is not None:
            raise _wrong(problem)

    async def expire(self) -> None:
        """Approvals whose time is over count as denied; their runs go on."""
        for pending in await self._store.expired(BATCH):
            event = ev.ApprovalResolved(
                approval_id=pending.id, call_id=pending.call_id, decision="expired", actor=SYSTEM
            )
            await self._resolve(
                Verdict(approval_id=pending.id, status="expired", actor=SYSTEM, event=msgspec.json.encode(event))
            )

    async def look(self) -> None:
        """The observer knows how many approvals wait, and for how long."""
        self._observer.approvals(*await self._store.pending())

    async def _resolve(self, verdict: Verdict) -> bool:
        resolved = await self._store.resolve(verdict)
        if resolved is None:
            return False
        self._observer.decided(resolved.risk, verdict.status, resolved.age)
        self._broadcast.wrote(resolved.run_id)
        if resolved.queued:
            self._broadcast.queued()
        return True


def _verdict(
    principal: Principal, approval: Approval, status: Decision, arguments: JsonObject | None, comment: str | None
) -> Verdict:
    """That decision of that person; with arguments it is bound to these, not to the model's."""
    edited = None if arguments is None else msgspec.json.encode(arguments)
    bound = approval.digest if edited is None else digest(approval.tool, edited.decode())
    event = ev.ApprovalResolved(
        approval_id=approval.id,
        call_id=approval.call_id,
        decision=status,
        by=principal.user,
        actor=principal.actor,
        comment=comment,
        arguments=None if edited is None else edited.decode(),
        digest=bound,
        changes=() if arguments is None else changes(approval.arguments, arguments),
    )
    return Verdict(
        approval_id=approval.id,
        status=status,
        actor=principal.actor,
        by=principal.user,
        comment=comment,
        edited=edited,
        digest=bound,
        event=msgspec.json.encode(event),
    )


def _wrong(why: str) -> RequestError:
    return RequestError("validation_error", f"`arguments`: {why}.", [FieldError("arguments", why)])
