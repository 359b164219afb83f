"""The runs that are cut: `WORK`, seven model calls and seven calls of tools that read, may be repeated, and write; and
`ATTENDED`, in which people have a say.

The model answers by what the history of a request holds, so that a run which goes on after a cut gets what it would have
got. It refuses, as a provider does, a history with a call that has no result or a result that has no call.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tests.e2e.provider import Call, Stage
from tests.e2e.wires import APIS, Reply, ToolUse, fails, says
from tests.faults.cuts import Knife
from tests.faults.rules import objections


class Step(msgspec.Struct, frozen=True):
    """One answer of the model: its text in pieces, then its tool calls."""

    text: tuple[str, ...] = ()
    calls: tuple[ToolUse, ...] = ()


class Script(msgspec.Struct, frozen=True):
    """What the model answers to every question that begins so, one step after the other."""

    question: str
    steps: tuple[Step, ...]

    @property
    def final(self) -> str:
        return "".join(self.steps[-1].text)

    @property
    def calls(self) -> dict[str, str]:
        """The tools by call."""
        return {id: name for step in self.steps for id, name, _ in step.calls}


def _use(id: str, name: str) -> ToolUse:
    return id, name, msgspec.json.encode({"what": id}).decode()


WORK = Script(
    "do it: ",
    (
        Step(("Let me ", "look."), (_use("c1", "look_up"),)),
        Step(calls=(_use("c2", "reserve"),)),
        Step(("Now I ", "pay – “exactly” ", "once 🧾."), (_use("c3", "pay"),)),
        Step(("Two ", "things ", "at once."), (_use("c4", "look_up"), _use("c5", "pay"))),
        Step(calls=(_use("c6", "ship"),)),
        Step(("One more ", "reservation."), (_use("c7", "reserve"),)),
        Step(("All ", "of it ", "is done: ", "7 calls, ", "3 writes ", "– naïve 🚀 ", "and whole.")),
    ),
)
ATTENDED = Script(
    "ask me: ",
    (
        Step(("First ", "a look."), (_use("a1", "look_up"),)),
        Step(("May I ", "launch?"), (_use("a2", "launch"), _use("a3", "look_up"))),
        Step(calls=(_use("a4", "reserve"),)),
        Step(("Launched ", "with ", "your word.")),
    ),
)
HELD = "a4"
"""The call during which a person says something."""
SCRIPTS = (WORK, ATTENDED)


class Asked(msgspec.Struct, frozen=True):
    """A request of the scripted run with that question for that step (from 1)."""

    question: str
    step: int
    call: Call


class Model:
    """Plays the scripts. `refused` says what was wrong with histories."""

    def __init__(self, *, knife: Knife, owner: Callable[[int], int | None]) -> None:
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        self._knife = knife
        self._owner = owner
        self._numbers: dict[Call, tuple[int, int | None]] = {}

    def of(self, question: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.question == question]

    def reply(self, call: Call) -> Reply | None:
        """The step that follows what the history holds; None for a question that is none of ours."""
        question = call.texts("user")[0]
        script = next((script for script in SCRIPTS if question.startswith(script.question)), None)
        if script is None:
            return None
        if wrong := objections(call.api, call.messages):
            self.refused += [f"{question}: {said}" for said in wrong]
            return fails(400, message="; ".join(wrong))
        held = set(call.calls)
        done = sum(all(id in held for id, _, _ in step.calls) for step in script.steps[:-1])
        step = script.steps[done]
        self.asked.append(Asked(question, done + 1, call))
        self._numbers[call] = self._knife.count("model"), self._owner(call.peer)
        return says(*step.text, calls=step.calls)

    async def watch(self, call: Call, stage: Stage) -> bool:
        """Whether the answer goes on."""
        if call not in self._numbers:
            return True
        number, pid = self._numbers[call]
        moment = {"asked": "before", "said": "after"}.get(str(stage), str(stage))
        return await self._knife.passes("model", number, moment, lambda: pid)


def agents() -> dict[str, str]:
    """An agent for each API, called by its name."""
    tools = sorted({"explode"}.union(*(script.calls.values() for script in SCRIPTS)))
    text = "kind: react\ninstructions: Be exact.\nlimits: {iterations: 20, timeout: 60}\ndescription: Does it\n"
    return {
        f"agents/{api}.yaml": f"{text}model: {api}\ntools: [{', '.join(tools)}]\nauto_approve: low\n" for api in APIS
    }


def settings(url: str) -> str:
    """The file of a workspace whose models are that stand-in."""
    toml = 'default_agent = "chat"\n'
    for api in APIS:
        kind = 'kind = "anthropic"' if api == "anthropic" else f'kind = "openai"\napi = "{api}"'
        base = url if api == "anthropic" else f"{url}/v1"
        toml += f'[providers.{api}]\n{kind}\nbase_url = "{base}"\napi_key_env = "STAND_IN_KEY"\n'
        toml += f'[models.{api}]\nchain = ["{api}/model-1"]\n'
        toml += f'[[prices]]\nmodel = "{api}/model-1"\ninput = 2\noutput = 10\n'
    return toml
