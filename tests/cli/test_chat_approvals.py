"""A run that waits for a person, in the terminal."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.cli.chat import Chat
from app.cli.chat_approvals import ASKED
from app.cli.chat_input import Interrupted
from app.cli.chat_screen import exactly
from app.domain import events as ev
from app.domain.changes import Change
from app.domain.errors import RequestError
from tests.cli.chatting import (
    Lines,
    Scripted,
    approval,
    created,
    delta,
    ended,
    finished,
    grounds,
    item,
    message,
    plain_screen,
    talk,
    waiting,
)

ARGUMENTS = {"to": "Zoë", "amount": 12}
REST = [ended("c1", "ok", b'"paid"'), delta("m", 0, "Paid."), message("Paid."), finished(output="Paid.")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["approve"], ("approve", None, None)),
        (["", "perhaps", "yes please", "Y"], ("approve", None, None)),
        (["deny"], ("deny", None, None)),
        (["no  too much money"], ("deny", None, "too much money")),
        (["edit", '{"to": "Zoë", "amount": 2}'], ("approve", {"to": "Zoë", "amount": 2}, None)),
        (["edit", "12", "e", "", "edit", "{", "d"], ("deny", None, None)),
    ],
)
async def test_a_call_waits_for_a_word(lines: list[str], said: Any) -> None:
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), *REST)
    answered, out, _ = await talk(service, "go", *lines)
    assert answered
    assert service.said == [("apr_1", *said)]
    assert 'pay wants to run (risk high) with\n  {\n    "to": "Zoë",\n    "amount": 12\n  }\n' in out
    assert '✓ pay(to="Zoë", amount=12) → paid\nPaid.\n' in out


async def test_several_calls_one_after_another() -> None:
    both = (approval(arguments={"n": 1}), approval(arguments={"n": 2}, id="apr_2", call_id="c2"))
    denied = ended("c2", "denied", b'"nobody wanted it"')
    service = Scripted(created(), *waiting(*both), ended("c1", "ok", b'"paid"'), denied, finished(output="So so."))
    answered, out, errors = await talk(service, "go", "a", "d")
    assert (answered, errors) == (True, "")
    assert [(word[0], word[1]) for word in service.said] == [("apr_1", "approve"), ("apr_2", "deny")]
    assert "✓ pay(n=1) → paid\n✗ pay(n=2) denied nobody wanted it\nSo so.\n" in out


async def test_arguments_that_the_tool_does_not_take_are_asked_for_again() -> None:
    refusal = RequestError("validation_error", "amount is missing")
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), *REST, refuse=refusal)
    answered, _, errors = await talk(service, "go", "e", '{"to": "me"}', "a")
    assert answered
    assert errors == "error: amount is missing\n"
    assert [word[1] for word in service.said] == ["approve", "approve"]


async def test_what_somebody_else_decided_is_said_and_the_answer_goes_on() -> None:
    refusal = RequestError("approval_resolved", "It was denied.")
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), *REST, refuse=refusal)
    answered, out, errors = await talk(service, "go", "a")
    assert (answered, errors) == (True, "")
    assert "it was decided elsewhere: It was denied.\n" in out
    assert "Paid.\n" in out


async def test_nobody_who_could_decide_leaves_the_run_waiting() -> None:
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), *REST)
    answered, _, errors = await talk(service, "go")
    assert not answered
    assert service.said == []
    assert errors == "error: nobody is here to decide: run run_1 waits\n"


async def test_ctrl_c_at_the_question_stops_the_run_and_ends_the_chat() -> None:
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), *REST)
    screen, out, _ = plain_screen()
    lines = Lines("go", Interrupted(), "never read")
    chat = Chat(service=service, screen=screen, typed=lines, agent=None, session_id="s1")
    await chat.run(known=False)
    assert service.said == ["leave"]
    assert lines.prompts == [ASKED]
    assert out.getvalue().endswith("stopped\n\n")


async def test_ctrl_c_after_the_word_stops_the_run_and_the_chat_goes_on() -> None:
    never = asyncio.Event()
    service = Scripted(created(), *waiting(approval(arguments=ARGUMENTS)), never)
    screen, out, _ = plain_screen()

    class Pressing(Lines):
        async def line(self, prompt: str | None = None) -> str | None:
            if prompt is not None:
                asyncio.get_running_loop().call_soon(self._soon)
            return await super().line(prompt)

        def _soon(self) -> None:
            if service.said:
                self.pressed.set()
            else:
                asyncio.get_running_loop().call_soon(self._soon)

    typed = Pressing("go", "a", "/reset")
    chat = Chat(service=service, screen=screen, typed=typed, agent=None, session_id="s1")
    async with asyncio.timeout(10):
        await chat.run(known=False)
    assert service.said == [("apr_1", "approve", None, None), "leave", "reset"]
    assert "stopped\n" in out.getvalue()


def test_arguments_are_shown_whole_and_steer_no_terminal() -> None:
    text = exactly({"note": "a\u202eb\x1b[31m" + "x" * 5000})
    assert text.count("x") == 5000
    assert r"a\u202eb\u001b[31m" in text


async def test_why_one_is_asked_and_what_an_edit_changed() -> None:
    asked = msgspec.structs.replace(approval(arguments=ARGUMENTS), grounds=grounds("mail", "web", "mail", more=3))
    change = (Change(path="/amount", old=12, new=2), Change(path="/to", old="Zoë"))
    resolved = ev.ApprovalResolved(approval_id="apr_1", call_id="c1", decision="approved", changes=change)
    service = Scripted(created(), *waiting(asked), item("approval.resolved", resolved), *REST)
    answered, out, errors = await talk(service, "go", "a")
    assert (answered, errors) == (True, "")
    assert (
        "why: Because of its risk.\nafter results of: mail (2 times), web and 3 before\nuntil: 2030-01-01 00:00:00 UTC\n"
        in out
    )
    assert '(changed /amount: 12 → 2)\n(changed /to: "Zoë" → nothing)\n' in out
