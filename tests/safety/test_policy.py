"""The table, whole: no context is more lenient than a cleaner one, and only what is written down makes an exception."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.decide import AskApproval, CallTools, decide
from app.domain import events as ev
from app.domain.fold import RunState, conversation
from app.domain.messages import Message, ToolCall
from app.domain.provenance import Taint, parts, taint
from app.domain.tool_policy import Rule, ToolPolicy, WhenTainted
from app.domain.tools import RISKS, Effect, Risk, ToolSpec
from app.safety.policy import TABLE, judge
from tests.agent.states import agent, asked, result, said, state, user
from tests.agent.test_decide import asked_for
from tests.scripted import tool_spec

CONTEXTS: tuple[Taint, ...] = ("clean", "tainted", "suspect")
EFFECTS: tuple[Effect, ...] = get_args(Effect)
STRICT = {"allow": 0, "approve": 1, "deny": 2}


def spec(risk: Risk = "high", effect: Effect = "write", **policy: Any) -> ToolSpec:
    return tool_spec("act", risk=risk, effect=effect, **({"policy": ToolPolicy(**policy)} if policy else {}))


def test_the_table_has_every_case() -> None:
    assert set(TABLE) == set(product(CONTEXTS, get_args(WhenTainted)))


@pytest.mark.parametrize(("risk", "effect", "auto"), list(product(RISKS, EFFECTS, RISKS)))
def test_what_runs_without_a_person(risk: Risk, effect: Effect, auto: Risk) -> None:
    of, tool = agent(auto_approve=auto), spec(risk, effect)
    outcomes = {context: judge(of, tool, "{}", context, frozenset()) for context in CONTEXTS}
    assert outcomes["clean"].outcome == ("allow" if RISKS.index(risk) <= RISKS.index(auto) else "approve")
    assert outcomes["tainted"].outcome == ("allow" if risk == "low" else "approve")
    assert outcomes["suspect"].outcome == ("allow" if (risk, effect) == ("low", "read") else "approve")
    assert outcomes["tainted"].risk == risk
    if outcomes["suspect"].outcome == "approve":
        assert RISKS.index(outcomes["suspect"].risk) == min(RISKS.index(risk) + 1, 3)


@given(
    risk=st.sampled_from(RISKS),
    effect=st.sampled_from(EFFECTS),
    auto=st.sampled_from(RISKS),
    when=st.sampled_from(get_args(WhenTainted)),
)
def test_dirtier_is_never_more_lenient(risk: Risk, effect: Effect, auto: Risk, when: WhenTainted) -> None:
    found = [
        judge(agent(auto_approve=auto), spec(risk, effect, when_tainted=when), "{}", c, frozenset()) for c in CONTEXTS
    ]
    strictness = [STRICT[judgement.outcome] for judgement in found]
    assert strictness == sorted(strictness)
    if when != "allow" and risk != "low":
        assert found[1].outcome != "allow"


def test_an_exception_is_for_its_tool_and_stands_back_for_the_detector() -> None:
    of = agent(auto_approve="medium")
    tool = spec("medium", when_tainted="allow")
    outcomes = [judge(of, tool, "{}", context, frozenset()).outcome for context in CONTEXTS]
    assert outcomes == ["allow", "allow", "approve"]
    assert judge(of, spec("low", when_tainted="deny"), "{}", "tainted", frozenset()).outcome == "deny"
    assert judge(of, spec("low", when_tainted="deny"), "{}", "clean", frozenset()).outcome == "allow"


def test_scopes_and_arguments_are_looked_at_in_any_context() -> None:
    of = agent(auto_approve="critical")
    tool = spec("low", scope="tool:pay", allow={"n": Rule(maximum=5)})
    for context in CONTEXTS:
        assert judge(of, tool, '{"n":1}', context, frozenset()).outcome == "deny"
        assert judge(of, tool, '{"n":6}', context, {"tool:pay"}).outcome == "deny"
    assert judge(of, tool, '{"n":5}', "clean", {"tool:pay"}).outcome == "allow"
    assert judge(of, tool, '{"n":5}', "clean", {"tool:other"}).why == (
        "the caller may not use it (that takes the scope tool:pay)"
    )


PAGE, PAY = ToolCall("p", "echo", "{}"), ToolCall("a", "risky", '{"n":1}')


def poisoned(*events: ev.Event, of: Any = None, **more: Any) -> Any:
    read = result(PAGE, "words from outside", trust=more.get("trust", "untrusted"), signals=more.get("signals", ()))
    return state(user(), asked("m1", PAGE), read, asked("m2", PAY), *events, of=of or agent(auto_approve="high"))


def approval(call: ToolCall, arguments: str | None = None) -> tuple[ev.Event, ev.Event]:
    return asked_for(call), ev.ApprovalResolved(
        approval_id="apr1", call_id=call.id, decision="approved", arguments=arguments
    )


def test_decide_asks_a_person_once_something_from_outside_was_read() -> None:
    assert decide(poisoned()) == AskApproval(calls=((PAY, "high"),))
    assert decide(poisoned(signals=("override",))) == AskApproval(calls=((PAY, "critical"),))
    assert decide(poisoned(trust="trusted")) == CallTools(calls=(PAY,))


def test_a_journal_that_says_nothing_of_trust_is_not_trusted() -> None:
    old = ev.decode(
        ev.StoredEvent(seq=3, name="tool.finished", payload=b'{"call_id":"p","name":"echo","status":"ok","result":"x"}')
    )
    assert old is not None
    run = state(user(), asked("m1", PAGE), old, asked("m2", PAY), of=agent(auto_approve="high"))
    assert run.taint == "tainted"
    assert decide(run) == AskApproval(calls=((PAY, "high"),))


def test_what_a_person_changed_is_held_against_the_list_again() -> None:
    risky = tool_spec("risky", risk="high", policy=ToolPolicy(allow={"n": Rule(maximum=5)}))
    of = agent(tools=(tool_spec("echo"), risky))
    assert decide(poisoned(*approval(PAY), of=of)) == CallTools(calls=(PAY,))
    decision = decide(poisoned(*approval(PAY, '{"n":6}'), of=of))
    assert isinstance(decision, CallTools)
    assert decision.calls == ()
    assert "n must be a plain number up to 5" in decision.denied[0][1]


def test_labels_say_where_every_part_comes_from() -> None:
    first = ev.RunCreated(
        run_id="r", session_id="s", agent="a", agent_version="v", message_id="m0", input="hi", preface="{}"
    )
    steered = ev.MessageCompleted(message=ev.VisibleMessage(id="m9", role="user", content="also this"))
    run = state(
        first, asked("m1", PAGE), result(PAGE, "x"), asked("m2", PAGE), result(PAGE, "x", trust="untrusted", signals=("leak",)),
        said("m3", "so"), steered,
    )  # fmt: skip
    assert [(part.label, part.trust) for part in parts(run.messages, run.steered)] == [
        ("instructions", "trusted"), ("context", "user"), ("user", "user"), ("model", "trusted"), ("tool:echo", "trusted"),
        ("model", "trusted"), ("tool:echo", "untrusted"), ("model", "untrusted"), ("steering", "user"),
    ]  # fmt: skip
    assert run.taint == "suspect"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["trusted", "untrusted", msgspec.UNSET]),
        st.sampled_from([msgspec.UNSET, ("override",), ("leak", "turn")]),
    ),
    max_size=4,
)


@given(STEPS, st.sampled_from(RISKS), st.booleans())
def test_a_journal_gives_the_same_decision_again(steps: Any, auto: Risk, summed_up: bool) -> None:
    """Live, restored from what is stored, and as the history of a later turn, also of one that was forked."""
    events: list[ev.Event] = [user()]
    for n, (trust, signals) in enumerate(steps):
        page = ToolCall(f"p{n}", "echo", "{}")
        events += [asked(f"m{n}", page), result(page, "x", trust=trust, signals=signals)]
    if summed_up:
        events.append(ev.ContextCompacted(upto="m0", messages=0, summary="all of it"))
    of = agent(auto_approve=auto)
    stored = [
        ev.StoredEvent(seq=n, name=ev.NAMES[type(e)], payload=msgspec.json.encode(e)) for n, e in enumerate(events, 1)
    ]
    live = state(*events, asked("m9", PAY), of=of)
    again = RunState(agent=of, system="", history=())
    again.restore(stored)
    again.apply(asked("m9", PAY))
    forked = msgspec.json.decode(msgspec.json.encode(conversation([stored])), type=tuple[Message, ...])
    later = RunState(agent=of, system="", history=forked)
    for event in (user("next"), asked("m9", PAY)):
        later.apply(event)
    assert decide(live) == decide(again) == decide(later)
    expected = "suspect" if any(t != "trusted" and s is not msgspec.UNSET for t, s in steps) else None
    expected = expected or ("tainted" if any(t != "trusted" for t, _ in steps) else "clean")
    assert live.taint == again.taint == later.taint == taint(parts((*later.history, *later.messages))) == expected
    later.history = (*later.history, Message(id="x", role="tool", content="x", signals=("leak",)))
    assert later.taint == "suspect"
