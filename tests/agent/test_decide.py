"""Every rule of the loop: what was said, and what follows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.agent.decide import MAX_REPAIRS, AskApproval, CallModel, CallTools, Decision, Finish, decide, hurry
from app.agent.endings import FAULT, ending, excused, late, late_failure, stopped
from app.domain import approvals
from app.domain import events as ev
from app.domain.approvals import PendingApproval, digest
from app.domain.errors import ProviderError, ProvidersUnavailable, StopCause
from app.domain.messages import ToolCall
from app.domain.runs import TERMINAL, Cancellation, RunFailure
from tests.agent.states import SCHEMA, agent, asked, rejected, result, said, state, user

A, B = ToolCall("a", "echo", "{}"), ToolCall("b", "echo", "not json")
UNKNOWN, RISKY = ToolCall("u", "nobody", "{}"), ToolCall("r", "risky", "{}")


@pytest.mark.parametrize(
    ("events", "decision"),
    [
        ([user()], CallModel()),
        ([user(), said("m1", "hi")], Finish(output="hi")),
        ([user(), said("m1", "")], Finish(output="")),
        ([user(), said("m1", "cut", stop="length")], Finish(output="cut")),
        ([user(), said("m1", "of the future", stop="unheard_of")], Finish(output="of the future")),
        ([user(), asked("m1", A, B)], CallTools((A, B))),
        ([user(), asked("m1", A, B), result(B)], CallTools((A,))),
        ([user(), asked("m1", A, B), result(B), result(A)], CallModel()),
        ([user(), asked("m1", A), result(A), said("m2", "4")], Finish(output="4")),
        ([user(), asked("m1", UNKNOWN)], CallTools((UNKNOWN,))),
        ([user(), said("m1", "wait", stop="pause")], CallModel()),
        ([user(), said("m1", "I see", A, stop="pause")], CallTools((A,))),
        ([user(), said("m1", "I will not", stop="refusal")], Finish(stop_reason="refused", output="I will not")),
        ([user(), said("m1", "half", stop="content_filter")], Finish(stop_reason="refused", output="half")),
        ([user(), said("m1", "half", A, stop="content_filter")], Finish(stop_reason="refused", output="half")),
    ],
)
def test_what_follows(events: list[ev.Event], decision: Decision) -> None:
    assert decide(state(*events)) == decision


@pytest.mark.parametrize(
    ("events", "decision"),
    [
        ([user()], CallModel()),
        ([user(), asked("m1", A), result(A)], CallModel(tools="none")),
        ([user(), said("m1", "wait", stop="pause")], CallModel(tools="none")),
        ([user(), said("m1", "hi")], Finish(output="hi")),
        (
            [user(), asked("m1", A), result(A), said("m2", "so far")],
            Finish(stop_reason="max_iterations", output="so far"),
        ),
        (
            [user(), asked("m1", A), result(A), said("m2", "so far", stop="pause")],
            Finish(stop_reason="max_iterations", output="so far"),
        ),
        (
            [user(), asked("m1", A), result(A), said("m2", "no", stop="refusal")],
            Finish(stop_reason="refused", output="no"),
        ),
    ],
)
def test_after_the_last_iteration_comes_one_call_without_tools(events: list[ev.Event], decision: Decision) -> None:
    assert decide(state(*events, of=agent(iterations=1))) == decision


def asked_for(call: ToolCall, arguments: str | None = None) -> ev.ApprovalRequested:
    given = arguments or call.arguments
    pending = PendingApproval(
        id="apr1",
        call_id=call.id,
        name=call.name,
        arguments={},
        risk="high",
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    return ev.ApprovalRequested(approval=pending, digest=digest(call.name, given))


def resolved(
    call: ToolCall, decision: approvals.Decision, arguments: str | None = None, bound: str | None = None
) -> ev.ApprovalResolved:
    about = None if bound is None else digest(call.name, bound)
    return ev.ApprovalResolved(
        approval_id="apr1", call_id=call.id, decision=decision, arguments=arguments, digest=about
    )


@pytest.mark.parametrize(("limit", "asks"), [("low", True), ("medium", True), ("high", False), ("critical", False)])
def test_a_tool_above_auto_approve_waits_for_a_person_once_the_others_are_done(limit: str, asks: bool) -> None:
    run = state(user(), asked("m1", RISKY, A), of=agent(auto_approve=limit))
    assert decide(run) == CallTools(calls=(A,) if asks else (RISKY, A))
    run.apply(result(A))
    assert decide(run) == (AskApproval(calls=((RISKY, "high"),)) if asks else CallTools(calls=(RISKY,)))
    run.apply(asked_for(RISKY))
    if asks:
        assert decide(run) == AskApproval()


def test_an_approved_call_runs_with_its_own_arguments_only() -> None:
    approved = state(user(), asked("m1", RISKY), asked_for(RISKY), resolved(RISKY, "approved"))
    assert decide(approved) == CallTools(calls=(RISKY,))
    other = state(user(), asked("m1", RISKY), asked_for(RISKY, '{"n":2}'), resolved(RISKY, "approved"))
    decision = decide(other)
    assert isinstance(decision, CallTools)
    assert decision.calls == ()
    assert "other arguments" in decision.denied[0][1]
    edited = state(user(), asked("m1", RISKY), asked_for(RISKY), resolved(RISKY, "approved", '{"n":7}'))
    assert decide(edited) == CallTools(calls=(RISKY,))
    assert edited.arguments(RISKY) == '{"n":7}'


@pytest.mark.parametrize(
    ("edited", "bound", "runs"),
    [(None, "{}", True), (None, '{"n":7}', False), ('{"n":7}', '{"n":7}', True), ('{"n":8}', '{"n":7}', False), ('{"n":7}', "{}", False)],
)  # fmt: skip
def test_a_word_is_bound_to_what_it_was_about(edited: str | None, bound: str, runs: bool) -> None:
    decision = decide(state(user(), asked("m1", RISKY), asked_for(RISKY), resolved(RISKY, "approved", edited, bound)))
    assert isinstance(decision, CallTools)
    assert decision.calls == ((RISKY,) if runs else ())


@pytest.mark.parametrize(
    ("how", "why"), [("denied", "decided against"), ("expired", "in time"), ("cancelled", "withdrawn")]
)
def test_what_a_person_did_not_approve_is_told_to_the_model(how: approvals.Decision, why: str) -> None:
    decision = decide(state(user(), asked("m1", RISKY), asked_for(RISKY), resolved(RISKY, how)))
    assert isinstance(decision, CallTools)
    assert (decision.calls, [call for call, _ in decision.denied]) == ((), [RISKY])
    assert why in decision.denied[0][1]


@pytest.mark.parametrize(("effect", "lost"), [("read", False), ("idempotent", False), ("write", True)])
def test_a_call_whose_end_nobody_saw_is_repeated_only_where_that_does_no_harm(effect: str, lost: bool) -> None:
    spec = msgspec.structs.replace(agent().tools[0], effect=effect)
    began = ev.ToolStarted(call_id=A.id, name=A.name, arguments={})
    run = state(user(), asked("m1", A), began, of=agent(tools=(spec,)))
    assert decide(run) == CallTools(calls=() if lost else (A,), lost=(A,) if lost else ())
    unknown = ev.ToolFinished(call_id=A.id, name=A.name, status="outcome_unknown", result=msgspec.Raw(b'"?"'))
    run.apply(unknown)
    assert isinstance(decide(run), CallModel)
    assert run.outcome_unknown


DRAFTS: list[ev.Event] = [said("m1", "no"), rejected("m1"), said("m2", "{}"), rejected("m2"), said("m3", '{"n": "1"}')]


@pytest.mark.parametrize(
    ("events", "decision"),
    [
        ([said("m1", '{"n": 1}')], Finish(output={"n": 1})),
        ([said("m1", '```json\n{"n": 1}\n```')], Finish(output={"n": 1})),
        (DRAFTS[:1], CallModel(rejects="m1")),
        (DRAFTS[:2], CallModel()),
        (DRAFTS[:3], CallModel(rejects="m2")),
        ([*DRAFTS[:2], said("m2", '{"n": 2}')], Finish(output={"n": 2})),
        ([*DRAFTS[:2], asked("m2", A), result(A)], CallModel()),
        ([said("m1", "no", stop="refusal")], Finish(stop_reason="refused", output="no")),
    ],
)
def test_a_structured_answer_is_repaired(events: list[ev.Event], decision: Decision) -> None:
    assert decide(state(user(), *events, of=agent(output_schema=SCHEMA))) == decision


@pytest.mark.parametrize("schema", [SCHEMA, SCHEMA | {"additionalProperties": False}], ids=["open", "closed"])
def test_repairs_end(schema: dict[str, Any]) -> None:
    assert len([event for event in DRAFTS if isinstance(event, ev.MessageReset)]) == MAX_REPAIRS
    decision = decide(state(user(), *DRAFTS, of=agent(output_schema=schema)))
    assert isinstance(decision, Finish)
    assert (decision.status, decision.stop_reason, decision.output) == ("failed", "invalid_output", None)
    assert decision.error is not None
    assert decision.error.code == "invalid_output"
    assert "'1' is not of type 'integer'" in decision.error.detail


@pytest.mark.parametrize(
    ("events", "decision"),
    [
        ([said("m2", '{"n": 1}')], Finish(stop_reason="max_iterations", output={"n": 1})),
        ([said("m2", "no")], CallModel(tools="none", rejects="m2")),
        ([said("m2", "no"), rejected("m2")], CallModel(tools="none")),
        (
            [said("m2", "no"), rejected("m2"), said("m3", '{"n": 1}')],
            Finish(stop_reason="max_iterations", output={"n": 1}),
        ),
    ],
)
def test_a_closing_answer_is_repaired_without_tools(events: list[ev.Event], decision: Decision) -> None:
    run = state(user(), asked("m1", A), result(A), *events, of=agent(iterations=1, output_schema=SCHEMA))
    assert decide(run) == decision


@pytest.mark.parametrize(
    ("error", "status", "reason", "code"),
    [
        (ProviderError("bad_request", "too long", status=400), "failed", "error", "provider_error"),
        (ProviderError("rate_limited", "slow", status=429), "failed", "providers_unavailable", "providers_unavailable"),
        (
            ProvidersUnavailable("r", [ProviderError("connect", "no"), ProviderError("stream_broken", "cut")]),
            "failed",
            "providers_unavailable",
            "providers_unavailable",
        ),
        (
            ProvidersUnavailable("r", [ProviderError("connect", "no"), ProviderError("bad_request", "no")]),
            "failed",
            "error",
            "provider_error",
        ),
    ],
)
def test_how_a_run_ends_that_did_not_come_to_its_own_end(
    error: ProviderError, status: str, reason: str, code: str
) -> None:
    end = ending(error)
    assert end.error is not None
    assert (end.status, end.stop_reason, end.error.code, end.output) == (status, reason, code, None)
    assert len(end.error.detail) > 20


@pytest.mark.parametrize(
    ("cause", "status", "reason", "code"),
    [
        ("timeout", "failed", "timeout", "timeout"),
        ("cancelled", "cancelled", "cancelled", "run_cancelled"),
        ("superseded", "cancelled", "cancelled", "run_cancelled"),
        ("reset", "cancelled", "cancelled", "run_cancelled"),
        ("interrupted", "failed", "error", "interrupted"),
    ],
)
def test_how_a_stopped_run_ends(cause: StopCause, status: str, reason: str, code: str) -> None:
    end = stopped(cause)
    assert end.error is not None
    assert (end.status, end.stop_reason, end.error.code, end.output) == (status, reason, code, None)
    assert stopped(cause, Cancellation()) == end


def test_who_cancelled_and_why_is_said() -> None:
    end = stopped("cancelled", Cancellation(by="ann", reason="wrong question"))
    assert end.error == RunFailure("run_cancelled", "Cancelled by ann: wrong question")


def test_a_fault_of_ours_says_where_to_look_and_nothing_else() -> None:
    assert FAULT.status in TERMINAL
    assert FAULT.error is not None
    assert (FAULT.stop_reason, FAULT.error.code) == ("error", "internal")


def test_a_run_in_a_hurry_asks_without_tools_or_says_what_it_has() -> None:
    call = ToolCall("c", "echo", "{}")
    assert hurry(state(user())) == CallModel(tools="none")
    assert hurry(state(user(), asked("m1", call), result(call))) == CallModel(tools="none")
    assert hurry(state(user(), said("m1", "42"))) == Finish(output="42")
    draft = state(user(), said("m1", "no json"), of=agent(output_schema=SCHEMA))
    assert hurry(draft) == CallModel(tools="none", rejects="m1")


@pytest.mark.parametrize(
    ("decision", "schema", "output"),
    [
        (Finish(output="42"), None, "42"),
        (Finish(output="42", stop_reason="max_iterations"), None, "42"),
        (Finish(output="no", stop_reason="refused"), None, "no"),
        (Finish(output={"n": 1}), SCHEMA, {"n": 1}),
        (Finish(output="no", stop_reason="refused"), SCHEMA, None),
        (Finish(output=" \n"), None, None),
        (Finish(status="failed", stop_reason="invalid_output"), SCHEMA, None),
        (CallModel(tools="none"), None, None),
    ],
)
def test_what_a_plain_call_makes_of_a_late_run(decision: Any, schema: Any, output: Any) -> None:
    end = late(decision, agent(output_schema=schema))
    if output is None:
        assert end == stopped("timeout")
    else:
        assert end == Finish(stop_reason="timeout", output=output, degraded=True)


def test_a_reply_goes_in_the_place_of_two_failures_only() -> None:
    replies = agent(fallback_reply="Sorry.")
    down = ending(ProvidersUnavailable("r", [ProviderError("connect", "no")]))
    assert excused(down, agent()) is None
    assert excused(down, replies) == Finish(stop_reason="providers_unavailable", output="Sorry.", degraded=True)
    assert excused(stopped("timeout"), replies) == Finish(stop_reason="timeout", output="Sorry.", degraded=True)
    structured_reply = agent(fallback_reply='{"n": 1}', output_schema=SCHEMA)
    assert excused(down, structured_reply) == Finish(
        stop_reason="providers_unavailable", output={"n": 1}, degraded=True
    )
    others = [stopped(cause) for cause in ("cancelled", "superseded", "reset", "interrupted")]
    for end in (*others, FAULT, ending(ProviderError("bad_request", "no")), Finish(stop_reason="timeout", output="x")):
        assert excused(end, replies) is None


def test_a_late_request_that_is_wrong_itself_is_the_error() -> None:
    wrong = ProviderError("bad_request", "no")
    assert late_failure(wrong) == ending(wrong)
    assert late_failure(ProviderError("overloaded", "busy")) == stopped("timeout")
