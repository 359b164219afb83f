"""Runs that go round in circles end; runs that only repeat themselves do not."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from app.agent import context, loops
from app.agent.decide import LOOPED, CallModel, CallTools, Finish, decide
from app.agent.loops import CALLS, PARALLEL
from app.domain import events as ev
from app.domain.agents import Limits
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from tests.agent.acting import act
from tests.agent.acting import agent as acting_agent
from tests.agent.fruitless import RUNAWAYS, WEAK
from tests.agent.held_out import HELD_OUT_REPETITIONS, HELD_OUT_RUNAWAYS
from tests.agent.repetitions import REPETITIONS
from tests.agent.states import SCHEMA, asked, rejected, result, said, state, user
from tests.agent.states import agent as states_agent

EACH = 40
"""Runaway runs of every shape."""
BENIGN = 20


def contained(make: Any, seed: int) -> bool:
    """Whether that runaway ends as a loop after its pattern and three more like it, at most; a weak one as late as it says."""
    model, tools, before, bound = make(random.Random(f"{make.__name__}{seed}"))
    acted = act(model, tools)
    found = [event for event in acted.events if isinstance(event, ev.LoopDetected)]
    end = acted.end
    return (
        (end.status, end.stop_reason, end.output, len(found)) == ("succeeded", "loop_detected", "so far", 1)
        and acted.rounds <= before + bound
    )  # fmt: skip


def test_runaway_runs_are_contained() -> None:
    escaped = Counter(make.__name__ for make in RUNAWAYS for seed in range(EACH) if not contained(make, seed))
    total = EACH * len(RUNAWAYS)
    assert total >= 800
    assert escaped.total() < total / 100, escaped


def test_shapes_that_the_rules_were_not_made_for() -> None:
    assert not [make.__name__ for make in HELD_OUT_RUNAWAYS for seed in range(BENIGN) if not contained(make, seed)]
    for make in HELD_OUT_REPETITIONS:
        for seed in range(BENIGN):
            model, tools = make(random.Random(f"{make.__name__}{seed}"))
            assert act(model, tools).end == Finish(output="done"), (make.__name__, seed)


def test_what_could_be_work_ends_later() -> None:
    assert not [make.__name__ for make in WEAK for seed in range(5) if not contained(make, seed)]


def test_benign_repetition_is_not_stopped() -> None:
    stopped: Counter[str] = Counter()
    for make in REPETITIONS:
        for seed in range(BENIGN):
            model, tools = make(random.Random(f"{make.__name__}{seed}"))
            if act(model, tools).end != Finish(output="done"):
                stopped[make.__name__] += 1
    assert BENIGN * len(REPETITIONS) >= 500
    assert not stopped


ECHO = "echo"


def round_of(n: int, *wishes: tuple[str, str], gives: str = "same") -> list[ev.Event]:
    """One message with calls, and what came of them."""
    calls = [ToolCall(f"c{n}.{at}", name, arguments) for at, (name, arguments) in enumerate(wishes)]
    return [asked(f"m{n}", *calls), *(result(call, gives) for call in calls)]


def rounds(count: int, *wishes: tuple[str, str], gives: str = "same", begin: int = 0) -> list[ev.Event]:
    return [event for n in range(begin, begin + count) for event in round_of(n, *wishes, gives=gives)]


def steered(n: int) -> ev.MessageCompleted:
    return ev.MessageCompleted(message=ev.VisibleMessage(id=f"u{n}", role="user", content="go on"))


def test_the_fourth_time_is_the_last() -> None:
    run = state(user(), *rounds(3, (ECHO, "{}")))
    assert decide(run) == CallModel()
    for event in round_of(3, (ECHO, " { } ")):
        run.apply(event)
    loop = ev.LoopDetected(kind="repeated", tools=("echo",))
    assert decide(run) == CallModel(tools="none", loop=loop)
    run.apply(loop)
    assert decide(run) == CallModel(tools="none")
    run.apply(said("m9", "all that I know"))
    assert decide(run) == Finish(stop_reason="loop_detected", output="all that I know")


@pytest.mark.parametrize(
    ("events", "kind", "tools"),
    [
        (rounds(4, (ECHO, "{}")), "repeated", ("echo",)),
        (rounds(4, (ECHO, "{}"), (ECHO, '{"n":1}')), "repeated", ("echo",)),
        ([e for n in range(0, 8, 2) for e in (*round_of(n, (ECHO, "{}")), *round_of(n + 1, (ECHO, "[1]"))) ], "cycle", ("echo",)),
        ([e for n in range(4) for e in round_of(n, (ECHO, f'{{"q":"what {n}"}}'))], "no_progress", ("echo",)),
        ([said(f"m{n}", "wait", stop="pause") for n in range(4)], "repeated", ("",)),
    ],
)  # fmt: skip
def test_what_a_loop_is_called(events: list[ev.Event], kind: str, tools: tuple[str, ...]) -> None:
    decision = decide(state(user(), *events))
    assert isinstance(decision, CallModel)
    assert decision.loop is not None
    assert (decision.tools, decision.loop.kind, decision.loop.tools or ("",)) == ("none", kind, tools)


@pytest.mark.parametrize(
    "events",
    [
        rounds(3, (ECHO, "{}")) + rounds(3, (ECHO, "{}"), gives="other", begin=3),
        [*rounds(3, (ECHO, "{}")), steered(1), *rounds(3, (ECHO, "{}"), begin=3)],
        [e for n in range(4) for e in round_of(n, (ECHO, f'{{"order_id":{n}}}'))],
        [e for n in range(4) for e in round_of(n, (ECHO, f'{{"n":{n}}}'), gives="17")],
        rounds(23, (ECHO, "{}"), gives='{"status":"pending"}'),
    ],
)
def test_what_is_none(events: list[ev.Event]) -> None:
    assert decide(state(user(), *events, of=of_fifty())) == CallModel()


@pytest.mark.parametrize("pattern", ["A", "AB", "ABC"])
def test_a_pattern_is_found_among_steps_that_came_before(pattern: str) -> None:
    """More steps than the pattern has came before it: still the pattern is what counts, and it comes four times."""
    run = state(user(), of=of_fifty())
    said_so_far = "ABCDEFDEF" + pattern * 4
    for n, step in enumerate(said_so_far):
        decision = decide(run)
        assert decision == CallModel(), (n, step)
        for event in round_of(n, (ECHO, f'{{"name":"{step}"}}')):
            run.apply(event)
    decision = decide(run)
    assert isinstance(decision, CallModel)
    assert decision.loop is not None
    assert decision.loop.kind == ("repeated" if len(pattern) == 1 else "cycle")


def test_waiting_has_an_end() -> None:
    decision = decide(state(user(), *rounds(24, (ECHO, "{}"), gives="not ready yet"), of=of_fifty()))
    assert isinstance(decision, CallModel)
    assert decision.loop is not None


def test_failures_of_every_kind_have_an_end() -> None:
    def tools(name: str, asked: Any) -> tuple[str, str]:
        return "error", f"FileNotFoundError: {asked['path']}"

    acted = act(lambda turn: [("read_file", {"path": f"{'x' * turn}.md"})], tools)
    assert (acted.end.stop_reason, acted.rounds) == ("loop_detected", 8)


@pytest.mark.parametrize("levels", [64, 65, 600, 990, 10_000])
@pytest.mark.parametrize("status", ["ok", "error"])
def test_what_is_nested_deeply_ends_no_run(levels: int, status: str) -> None:
    """A page that is nothing but brackets, and arguments that are: they are compared like others."""
    nested = "[" * levels + "]" * levels
    for result_of, arguments in ((nested, "{}"), (nested, nested), ("same", f'{{"a":{nested}}}')):
        run = state(user(), of=of_fifty())
        for n in range(4):
            assert decide(run) == CallModel()
            call = ToolCall(f"c{n}", ECHO, arguments)
            run.apply(asked(f"m{n}", call))
            run.apply(result(call, result_of, status=status))
        assert loops.found(run) is not None
        assert loops.notes(run)


def of_fifty() -> Any:
    return states_agent(limits=Limits(iterations=50))


def test_the_user_begins_anew() -> None:
    run = state(user(), *rounds(4, (ECHO, "{}")))
    decision = decide(run)
    assert isinstance(decision, CallModel)
    assert decision.loop is not None
    run.apply(decision.loop)
    run.apply(said("m8", "I am stuck"))
    run.apply(steered(1))
    assert decide(run) == CallModel()
    assert run.loop is None


def test_a_loop_is_the_reason_where_the_iterations_end_with_it() -> None:
    run = state(user(), *rounds(4, (ECHO, "{}")), of=states_agent(iterations=4))
    decision = decide(run)
    assert isinstance(decision, CallModel)
    assert decision.loop is not None
    run.apply(decision.loop)
    run.apply(said("m8", "so"))
    assert decide(run) == Finish(stop_reason="loop_detected", output="so")


def test_a_model_that_says_nothing_is_spoken_for() -> None:
    loop = ev.LoopDetected(kind="repeated")
    silent = state(user(), loop, said("m1", " "))
    assert decide(silent) == Finish(stop_reason="loop_detected", output=LOOPED, degraded=True, says=LOOPED)
    replies = state(user(), loop, said("m1", ""), of=states_agent(fallback_reply="Sorry."))
    assert decide(replies) == Finish(stop_reason="loop_detected", output="Sorry.", degraded=True, says="Sorry.")
    before = state(
        user(),
        said("m0", "Let me see.", ToolCall("c", ECHO, "{}")),
        result(ToolCall("c", ECHO, "{}")),
        loop,
        said("m1"),
    )
    assert decide(before) == Finish(stop_reason="loop_detected", output="Let me see.")


def test_a_structured_answer_from_what_is_known_is_repaired_without_tools() -> None:
    events: list[ev.Event] = [ev.LoopDetected(kind="repeated"), said("m1", "no")]
    run = state(user(), *events, of=states_agent(output_schema=SCHEMA))
    assert decide(run) == CallModel(tools="none", rejects="m1")
    run.apply(rejected("m1"))
    assert decide(run) == CallModel(tools="none")
    run.apply(said("m2", '{"n": 1}'))
    assert decide(run) == Finish(stop_reason="loop_detected", output={"n": 1})


def test_the_model_is_told_once_and_the_requests_only_grow() -> None:
    run = state(user())
    before: tuple[Message, ...] = ()
    for n in range(4):
        for event in round_of(n, (ECHO, "{}")):
            run.apply(event)
        messages = context.build(run, "auto").messages
        assert messages[: len(before)] == before
        before = messages
        told = [message.id for message in messages if loops.NOTE in message.content]
        assert told == ["result-c2.0"] * (n >= 2)
    assert messages[6].content == f"same\n\n{loops.NOTE}"
    assert loops.NOTE not in "".join(message.content for message in run.messages)
    run.apply(steered(1))
    assert context.build(run, "auto").messages[: len(before)] == before


def test_a_message_has_so_many_calls_at_most() -> None:
    calls = [ToolCall(f"c{n}", ECHO, f'{{"n":{n}}}') for n in range(PARALLEL + 8)]
    run = state(user(), asked("m1", *calls))
    decision = decide(run)
    assert isinstance(decision, CallTools)
    assert decision.calls == tuple(calls[:PARALLEL])
    assert [call for call, _ in decision.denied] == calls[PARALLEL:]
    assert str(PARALLEL) in decision.denied[0][1]
    run.apply(result(calls[0]))
    again = decide(run)
    assert isinstance(again, CallTools)
    assert len(again.calls) == PARALLEL - 1
    one_more = state(user(), asked("m1", *calls[: PARALLEL + 1]), *(result(call) for call in calls[:PARALLEL]))
    left = decide(one_more)
    assert isinstance(left, CallTools)
    assert (left.calls, [call for call, _ in left.denied]) == ((), [calls[PARALLEL]])
    risky = [ToolCall(f"c{n}", "risky", "{}") for n in range(PARALLEL + 1)]
    denied = decide(state(user(), asked("m1", *risky)))
    assert isinstance(denied, CallTools)
    assert (denied.calls, len(denied.denied)) == ((), 1)


def test_a_run_has_so_many_calls_at_most() -> None:
    acted = act(lambda turn: [("add_item", {"n": f"{turn}.{n}"}) for n in range(PARALLEL)], lambda *_: ("ok", "ok"))
    assert (acted.end.stop_reason, acted.rounds) == ("loop_detected", CALLS // PARALLEL)
    (loop,) = [event for event in acted.events if isinstance(event, ev.LoopDetected)]
    assert loop.kind == "fan_out"


def test_a_round_is_looked_at_once() -> None:
    """The rounds before are not read again: what was found in them stands, also where nobody could find it any more."""
    run = state(user(), *rounds(3, (ECHO, "{}")), of=of_fifty())
    assert decide(run) == CallModel()
    assert list(loops.notes(run)) == ["result-c2.0"]
    run.messages[1:] = [msgspec.structs.replace(message, content="forgotten") for message in run.messages[1:]]
    for event in round_of(3, (ECHO, "{}")):
        run.apply(event)
    decision = decide(run)
    assert isinstance(decision, CallModel)
    assert decision.loop == ev.LoopDetected(kind="repeated", tools=("echo",))
    assert list(loops.notes(run)) == ["result-c2.0"]


def test_a_draft_that_is_rejected_later_is_no_round() -> None:
    run = state(user(), *[said(f"m{n}", "wait", stop="pause") for n in range(3)], of=of_fifty())
    assert decide(run) == CallModel()
    run.apply(rejected("m2"))
    run.apply(said("m3", "wait", stop="pause"))
    assert decide(run) == CallModel()
    run.apply(said("m4", "wait", stop="pause"))
    decision = decide(run)
    assert isinstance(decision, CallModel)
    assert decision.loop is not None


def test_the_same_after_a_crash_at_any_point() -> None:
    """Whatever part of a journal is there: the run that is restored from it decides as the one that wrote it did."""
    for make in RUNAWAYS:
        model, tools, _, _ = make(random.Random(make.__name__))
        events = act(model, tools).events
        live = RunState(agent=acting_agent(), system="", history=())
        for at, event in enumerate(events, 1):
            live.apply(event)
            if at % 7 == 0 or at == len(events):
                stored = [
                    ev.StoredEvent(seq=n, name=ev.NAMES[type(one)], payload=msgspec.json.encode(one))
                    for n, one in enumerate(events[:at], 1)
                ]
                restored = RunState(agent=acting_agent(), system="", history=())
                restored.restore(stored)
                assert decide(restored) == decide(live), (make.__name__, at)
                assert context.build(restored, "auto") == context.build(live, "auto")
