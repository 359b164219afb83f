"""What of a conversation is sent: whole pairs, under the budget, and the same beginning for many calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.agent import tokens
from app.agent.trimming import KEEP, MARKER, SLACK, Sent, noted, shortened, trim
from app.domain.messages import Message, ToolCall
from app.domain.models import ModelRequest
from app.llm import anthropic_messages, openai_chat, openai_responses
from tests.e2e.wires import ApiName
from tests.faults.rules import objections
from tests.llm.messages import CALCULATOR

Turn = list[Message]
FIXED = 200
LEFT_OUT = "messages before this one were left out"

# Texts of very different length and script; a round is the lengths of its results.
TEXTS = st.builds(
    lambda piece, times: piece * times, st.sampled_from(["word ", "щука", "魚", "🐟", '{"a":1}']), st.integers(0, 900)
)
ROUNDS = st.lists(st.lists(TEXTS, min_size=1, max_size=3), max_size=10)
TURNS = st.lists(st.tuples(TEXTS, ROUNDS, st.none() | TEXTS, st.booleans()), min_size=1, max_size=8)


def turn(
    name: str, said: str, rounds: Sequence[Sequence[str]] = (), answer: str | None = "ok", steered: bool = False
) -> Turn:
    """A turn; a user who says more does so before the last answer."""
    messages = [Message(id=f"{name}-u", role="user", content=said)]
    for at, results in enumerate(rounds):
        calls = tuple(ToolCall(f"c{name}-{at}-{n}", "calculator", "{}") for n in range(len(results)))
        messages.append(Message(id=f"{name}-a{at}", role="assistant", content="", tool_calls=calls))
        messages += [
            Message(id=f"r-{call.id}", role="tool", content=text, call_id=call.id, name="calculator")
            for call, text in zip(calls, results, strict=True)
        ]
    if steered:
        messages.append(Message(id=f"{name}-s", role="user", content="and quickly"))
    if answer is not None:
        messages.append(Message(id=f"{name}-z", role="assistant", content=answer))
    return messages


def conversation(drawn: Sequence[tuple[str, Any, str | None, bool]]) -> tuple[Turn, Turn]:
    """The turns before, and the current one as it is before its answer."""
    turns = [turn(str(n), *parts) for n, parts in enumerate(drawn)]
    said, rounds, _, steered = drawn[-1]
    return list(chain(*turns[:-1])), turn(str(len(drawn) - 1), said, rounds, None, steered)


def sent_of(history: Turn, current: Turn, budget: int, tool_result: int) -> Sent:
    sent = trim(history, current, fixed=FIXED, budget=budget, tool_result=tool_result)
    if sent is None:
        whole = (*history, *current)
        return Sent(messages=whole, tokens=FIXED + sum(map(tokens.message, whole)), left_out=0)
    if not sent.cut:
        return sent
    return msgspec.structs.replace(sent, messages=noted(sent.messages, f"[The {sent.cut} {LEFT_OUT} to save space.]"))


WRITERS: dict[ApiName, Callable[[ModelRequest, str], tuple[bytes, dict[str, str]]]] = {
    "anthropic": anthropic_messages.write,
    "chat": openai_chat.api(own_host=True).write,
    "responses": openai_responses.api(own_host=True).write,
}


def refusals(messages: Sequence[Message]) -> list[str]:
    """What the vendors would say of them."""
    request = ModelRequest(route="r", system="s", messages=tuple(messages), tools=(CALCULATOR,))
    wrong = []
    for name, write in WRITERS.items():
        body = msgspec.json.decode(write(request, "m")[0])
        wrong += objections(name, body["input" if name == "responses" else "messages"])
        if name == "anthropic" and body["messages"][0]["role"] != "user":
            wrong.append("it begins with no user's message")
    return wrong


@settings(max_examples=150, deadline=None)
@given(TURNS, st.integers(1_000, 9_000), st.integers(200, 3_000))
def test_whatever_is_sent_is_whole_and_fits(drawn: Any, budget: int, tool_result: int) -> None:
    history, current = conversation(drawn)
    sent = sent_of(history, current, budget, tool_result)
    assert refusals(sent.messages) == []
    estimate = FIXED + sum(map(tokens.message, sent.messages))
    assert estimate <= sent.tokens + 1
    whole = FIXED + sum(map(tokens.message, [*history, *current]))
    assert sent.left_out == max(0, whole - sent.tokens)
    if FIXED + MARKER + sum(map(tokens.message, current)) <= budget:
        assert sent.tokens <= budget
    # The current turn is there: every message of it, and its user's words.
    tail = sent.messages[-len(current) :]
    assert [message.id for message in tail] == [message.id for message in current]
    assert tail[0].content.endswith(current[0].content)
    # Before it stand whole turns, and what is kept is shortened results aside what was said.
    before = sent.messages[: -len(current)]
    assert [message.id for message in before] == [message.id for message in history[len(history) - len(before) :]]
    for was, now in zip([*history, *current][-len(sent.messages) :], sent.messages, strict=True):
        if was.role == "tool":
            assert now.content == was.content or len(now.content) < len(was.content)
        else:
            assert now == was or (now is sent.messages[0] and LEFT_OUT in now.content)


@settings(max_examples=60, deadline=None)
@given(TURNS, st.integers(1_000, 9_000), st.integers(200, 3_000))
def test_what_was_decided_stays_within_a_turn(drawn: Any, budget: int, tool_result: int) -> None:
    history, current = conversation(drawn)
    cuts = [len(current)]
    for upto in range(1, len(current) + 1):
        sent = sent_of(history, current[:upto], budget, tool_result)
        cuts.append(len(history) + upto - len(sent.messages))
    assert cuts[1:] == sorted(cuts[1:])


@pytest.mark.parametrize("rounds", [[], [["x" * 400], ["y" * 4_000]]], ids=["talk", "tools"])
def test_the_beginning_changes_rarely(rounds: list[list[str]]) -> None:
    """Over 300 turns: the cut moves once in the turns that fill a quarter of the budget."""
    history: Turn = []
    firsts: list[str] = []
    budget, each = 20_000, 0
    for n in range(300):
        current = turn(str(n), "word " * 60, rounds, None)
        sent = sent_of(history, current, budget, 1_000)
        assert sent.tokens <= budget
        firsts.append(sent.messages[0].content)
        history += turn(str(n), "word " * 60, rounds)
        each = sum(map(tokens.message, sent.messages[-2 * len(current) - 1 : -len(current)]))
    changes = sum(a != b for a, b in pairwise(firsts))
    per_move = (1 - KEEP) * budget / each
    assert 0 < changes <= 300 / (per_move - 2)
    assert LEFT_OUT in firsts[-1]


def test_between_moves_a_request_begins_with_the_one_before() -> None:
    history: Turn = []
    changed = 0
    last: tuple[Message, ...] = ()
    for n in range(200):
        current = turn(str(n), "word " * 100, (), None)
        now = sent_of(history, current, 5_000, 1_000).messages
        changed += now[: len(last)] != last
        last = now
        history += turn(str(n), "word " * 100)
    assert 0 < changed <= 30


def test_a_result_is_whole_in_its_turn_and_short_after_it() -> None:
    long = "h" * 5_000 + "t" * 5_000
    done = turn("0", "q", [[long]])
    (during,) = [m for m in sent_of([], done[:-1], 100_000, 1_000).messages if m.role == "tool"]
    assert during.content == long
    sent = sent_of(done, turn("1", "next", (), None), 100_000, 1_000)
    (after,) = [m for m in sent.messages if m.role == "tool"]
    assert after.content == shortened(long, 1_000)
    assert "9000 characters left out" in after.content
    assert (after.content[0], after.content[-1]) == ("h", "t")
    assert sent.left_out == tokens.message(during) - tokens.message(after) > 2_000
    assert done[2].content == long


def test_in_a_long_turn_very_long_results_of_old_rounds_are_shortened_by_fours() -> None:
    rounds = [["x" * 9_000] for _ in range(20)]
    short = []
    for n in range(1, 21):
        sent = sent_of([], turn("0", "q", rounds[:n], None), 1_000_000, 1_000)
        short.append([len(m.content) < 9_000 for m in sent.messages if m.role == "tool"])
    assert [sum(now) for now in short] == [0] * 8 + [4] * 4 + [8] * 4 + [12] * 4
    assert all(now == sorted(now, reverse=True) for now in short)
    medium = turn("0", "q", [["x" * 3_000] for _ in range(20)], None)
    assert sent_of([], medium, 1_000_000, 1_000).left_out == 0


def test_one_result_that_is_too_much_costs_no_earlier_turn() -> None:
    history = turn("0", "what was said before")
    sent = sent_of(history, turn("1", "q", [["x" * 100_000]], None), 5_000, 4_000)
    assert sent.messages[0] == history[0]
    assert sent.tokens <= 5_000
    assert len(sent.messages[-1].content) < 4_000 + SLACK


def test_later_results_of_a_turn_that_did_not_fit_are_short_too() -> None:
    sent = sent_of([], turn("0", "q", [["x" * 30_000], ["y" * 6_000]], None), 5_000, 4_000)
    assert [len(m.content) < 4_000 + SLACK for m in sent.messages if m.role == "tool"] == [True, True]


def test_a_turn_that_grows_after_the_cut_still_fits() -> None:
    history = turn("0", "word " * 2_400)
    current = turn("1", "q", [["x" * 3_000]] * 8, None)
    for upto in range(1, len(current) + 1):
        assert sent_of(history, current[:upto], 4_000, 1_000).tokens <= 4_000


def test_a_user_who_says_too_much_is_sent_nevertheless() -> None:
    history = turn("0", "before", [["x" * 3_000]])
    current = turn("1", "word " * 10_000, (), None)
    sent = sent_of(history, current, 1_000, 1_000)
    assert len(sent.messages) == 1
    assert sent.messages[0].content.endswith(current[0].content)
    assert sent.tokens > 1_000


def test_a_history_that_begins_with_an_answer() -> None:
    history = [Message(id="h", role="assistant", content="word " * 2_000), *turn("0", "q")]
    sent = sent_of(history, turn("1", "r", (), None), 2_000, 1_000)
    assert [m.id for m in sent.messages] == ["0-u", "0-z", "1-u"]
    assert refusals(sent.messages) == []


def test_a_cut_never_stands_between_a_call_and_its_result() -> None:
    """Also where a user's message came between them."""
    call, early = ToolCall("c", "calculator", "{}"), Message(id="s", role="user", content="faster")
    asked = Message(id="a", role="assistant", content="", tool_calls=(call,))
    result = Message(id="r", role="tool", content="x" * 3_000, call_id="c", name="calculator")
    history = [Message(id="u", role="user", content="word " * 500), asked, early, result]
    for budget in range(1_000, 3_000, 50):
        sent = sent_of(history, turn("1", "q", (), None), budget, 4_000)
        assert [m.id for m in sent.messages] in (["u", "a", "s", "r", "1-u"], ["1-u"])


@given(TEXTS, st.integers(200, 1_000))
def test_a_shortened_text_is_shorter(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert short == text or len(short) < len(text)
    assert len(short) <= limit + SLACK
    assert tokens.dense(short) <= tokens.dense(text)


ROWS = [{"order": f"A-{n * 7919}", "total": n / 4, "status": "shipped"} for n in range(200)]
# The tokens that o200k_base and cl100k_base need.
KNOWN = [
    ("The quick brown fox jumps over the lazy dog. " * 20, 201, 201),
    ("Où est la bibliothèque ? Près du café, à côté de l'école. " * 10, 162, 211),
    ("Съешь же ещё этих мягких французских булок, да выпей чаю. " * 10, 191, 361),
    ("ذهبت إلى السوق اليوم لشراء بعض الفواكه والخضروات. " * 5, 85, 175),
    ("मैं आज बाज़ार से फल और सब्ज़ियाँ खरीदने जा रहा हूँ। " * 5, 91, 291),
    ("我们今天去商店买一些水果和蔬菜。" * 10, 130, 190),
    ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 5, 160, 195),
    ("🐟🎉👍🏽👩‍👩‍👧 " * 10, 160, 251),
]


@pytest.mark.parametrize(("text", "least", "most"), KNOWN, ids=["en", "fr", "ru", "ar", "hi", "zh", "ja", "emoji"])
def test_the_estimate_is_between_a_new_and_an_old_vocabulary(text: str, least: int, most: int) -> None:
    assert 0.9 * least <= tokens.prose(text) <= 1.15 * most


def test_json_is_denser_than_prose() -> None:
    text = msgspec.json.encode(ROWS).decode()
    assert tokens.dense(text) > 1.3 * tokens.prose(text)
    assert 0.9 * 3_675 <= tokens.dense(text) <= 1.15 * 3_675


def test_parts_add_up() -> None:
    call = ToolCall("c", "calculator", '{"expression": "6 * 7"}')
    assert tokens.message(Message(id="m", role="assistant", content="abcd" * 10, tool_calls=(call, call))) == (
        tokens.PER_MESSAGE + 10 + 2 * tokens.call(call)
    )
    assert tokens.fixed("", (), None) == tokens.PER_MESSAGE
    assert tokens.fixed("", (CALCULATOR,), {"type": "object"}) > tokens.fixed("", (CALCULATOR,), None) > 30
    assert tokens.dense("\ud800") > 0
