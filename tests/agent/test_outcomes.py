"""What becomes of one call, and in which order that is asked: the order is what makes it safe."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from app.agent.decide import AskApproval, CallTools, decide
from app.agent.loops import PARALLEL
from app.domain import events as ev
from app.domain.approvals import PendingApproval, digest
from app.domain.messages import ToolCall
from app.domain.tool_policy import ToolPolicy
from tests.agent.states import agent, asked, result, state, user
from tests.scripted import tool_spec

WRITES = ToolCall("w", "writes", "{}")
HEEDED = tool_spec("writes", effect="write", risk="high", policy=ToolPolicy(scope="billing"))
STARTED = ev.ToolStarted(call_id="w", name="writes", arguments={})
APPROVED = ev.ApprovalResolved(approval_id="apr", call_id="w", decision="approved", digest=digest("writes", "{}"))
ASKED = ev.ApprovalRequested(
    approval=PendingApproval(
        id="apr", call_id="w", name="writes", arguments={}, risk="high", expires_at=datetime(2030, 1, 1, tzinfo=UTC)
    ),
    digest=digest("writes", "{}"),
)


@pytest.mark.parametrize(
    ("beyond", "known", "granted", "events", "outcome"),
    [
        (True, True, False, [ASKED, APPROVED, STARTED], "lost"),
        (True, False, False, [STARTED], "runs"),
        (True, True, False, [ASKED, APPROVED], "at most"),
        (True, False, False, [], "at most"),
        (False, False, False, [], "runs"),
        (False, True, False, [ASKED, APPROVED], "scope"),
        (False, True, False, [ASKED], "scope"),
        (False, True, True, [ASKED, APPROVED], "runs"),
        (False, True, True, [ASKED, msgspec.structs.replace(APPROVED, digest="of another")], "other arguments"),
        (False, True, True, [ASKED, msgspec.structs.replace(APPROVED, decision="denied")], "decided against"),
        (False, True, True, [ASKED], "asked already"),
        (False, True, True, [], "asks"),
    ],
)
def test_what_becomes_of_a_call_in_this_order(
    beyond: bool, known: bool, granted: bool, events: list[ev.Event], outcome: str
) -> None:
    """What was begun, then what is too much, then the policy, then people's words, and only then a question."""
    before = [ToolCall(f"c{n}", "echo", "{}") for n in range(PARALLEL * beyond)]
    scopes = frozenset({"billing"} if granted else ())
    run = state(
        msgspec.structs.replace(user(), granted=tuple(scopes)),
        asked("m1", *before, WRITES),
        *events,
        *(result(call) for call in before),
        of=agent(tools=(tool_spec("echo"), *([HEEDED] if known else []))),
    )
    decision = decide(run)
    if outcome in ("asks", "asked already"):
        assert decision == AskApproval(((WRITES, "high"),) if outcome == "asks" else ())
    elif outcome in ("runs", "lost"):
        assert decision == (CallTools((WRITES,)) if outcome == "runs" else CallTools((), lost=(WRITES,)))
    else:
        assert isinstance(decision, CallTools)
        ((call, why),) = decision.denied
        assert (decision.calls, decision.lost, call) == ((), (), WRITES)
        assert outcome in why
