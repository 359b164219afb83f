"""What a chat shows of a run."""

from __future__ import annotations

from io import StringIO

import msgspec
import pytest

from app.cli.chat_screen import Screen, call_line, harmless, shortened
from app.domain import events as ev
from app.domain.runs import RunFailure
from tests.cli.chatting import Terminal, delta, finished, item, message, plain_screen, shown


def test_text_that_comes_twice_is_shown_once() -> None:
    screen, out, _ = plain_screen()
    again = [
        delta("m", 0, "Hel"),
        delta("m", 3, "lo"),
        delta("m", 0, "Hello wo"),
        delta("m", 8, "rld"),
        message("Hello world"),
    ]
    shown([*again, finished(output="Hello world")], screen)
    assert out.getvalue() == "Hello world\n"


def test_a_tool_call_is_one_line_with_its_end() -> None:
    screen, out, _ = plain_screen()
    begun = ev.ToolStarted(call_id="c", name="find", arguments={"q": "a\nb", "n": 3})
    ended = ev.ToolFinished(
        call_id="c", name="find", status="ok", result=msgspec.Raw(b'{"hits":["' + b"x" * 500 + b'"]}')
    )
    shown([delta("m", 0, "Let me see."), item("tool.started", begun), item("tool.finished", ended)], screen)
    screen.show(item("tool.finished", ended))
    first, second, rest = out.getvalue().split("\n")
    assert (first, rest) == ("Let me see.", "")
    assert second.startswith('✓ find(q="a\\nb", n=3) → {"hits":["xxx')
    assert second.endswith("x…")
    assert len(second) < 150


def test_a_failed_tool_says_how_it_failed() -> None:
    screen, out, _ = plain_screen()
    begun = ev.ToolStarted(call_id="c", name="find", arguments="{not json")
    ended = ev.ToolFinished(call_id="c", name="find", status="timeout", result=msgspec.Raw(b'"took too long"'))
    shown([item("tool.started", begun), item("tool.finished", ended)], screen)
    assert out.getvalue() == "✗ find({not json) timeout took too long\n"


def test_nothing_of_an_answer_steers_the_terminal() -> None:
    assert harmless("a\x1b[31mb\x07\r\nc\td\x9b2J\u202ee") == "a[31mb\nc\td2Je"
    assert shortened("one\n\x1b]0;title\x07 two") == "one ]0;title two"
    assert "\x1b" not in call_line("x\x1b", {"a": "\x1b"})


def test_an_output_that_no_message_was_is_shown_and_marked() -> None:
    screen, out, _ = plain_screen()
    shown([finished(output="Sorry.", stop_reason="providers_unavailable", degraded=True)], screen)
    shown([delta("m", 0, '{"a": 1}'), message('{"a": 1}'), finished(output={"a": 1})], screen)
    shown([finished(output={"b": 2}, stop_reason="max_iterations")], screen)
    assert out.getvalue().split("\n") == [
        "Sorry.", "(degraded: providers_unavailable)", '{"a": 1}', '{"b":2}', "(ended early: max_iterations)", "",
    ]  # fmt: skip


def test_a_withdrawn_text_is_marked_and_a_failure_is_one_line_on_errors() -> None:
    screen, out, errors = plain_screen()
    failure = RunFailure("timeout", "Too\nlate.")
    reset = item("message.reset", ev.MessageReset(message_id="m"))
    shown([delta("m", 0, "Hal"), reset, delta("n", 0, "New"), finished("failed", error=failure)], screen)
    assert out.getvalue() == "Hal\n(the text above was withdrawn)\nNew\n"
    assert errors.getvalue() == "error: Too late. (timeout)\n"


def test_the_spinner_is_for_terminals_and_leaves_nothing_behind() -> None:
    out = Terminal()
    screen = Screen(out=out, errors=StringIO(), environ={"NO_COLOR": "1", "TERM": "xterm"})
    screen.begin()
    screen.tick()
    assert out.getvalue() == "\r\x1b[K⠋ thinking"
    screen.show(delta("m", 0, "Hi"))
    screen.tick()
    assert out.getvalue() == "\r\x1b[K⠋ thinking\r\x1b[KHi"
    piped, plain, _ = plain_screen()
    piped.begin()
    piped.tick()
    assert plain.getvalue() == ""


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_only_where_it_is_wanted(environ: dict[str, str], coloured: bool) -> None:
    assert ("\x1b" in Screen(out=Terminal(), errors=StringIO(), environ=environ).painted("x", "2")) is coloured
    assert Screen(out=StringIO(), errors=StringIO(), environ=environ).painted("x", "2") == "x"
