"""A model that does whatever it reads, tools that know whether they were allowed to run, and people who decide."""

from __future__ import annotations

import base64
import codecs
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.approvals import digest
from app.domain.messages import Message, ToolCall
from app.domain.models import Completed, ModelChunk, ModelRequest, Recorder
from app.domain.tool_policy import Caps, ToolUse
from app.domain.tools import Effect, Risk, ToolContext, ToolResult, ToolSpec
from app.llm.opening import begin
from app.tools import tool
from app.tools.declare import DeclaredTool, declare
from app.tools.guarded import GuardedToolbox
from app.tools.toolbox import PythonToolbox
from tests.scripted import says

Call = tuple[str, str, str]
_ORDER = re.compile(r"CALL (\w+) (\{.*?\})(?=\s|$|\"|&|\\n|<)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")


class Obedient:
    """A provider whose model is `think`: from a request to what it says. Keeps the requests."""

    def __init__(self, think: Callable[[ModelRequest], Sequence[ModelChunk]]) -> None:
        self._think = think
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        attempt, request = await begin(recorder, "obedient", "model", request, time.monotonic())
        self.requests.append(request)
        try:
            for chunk in self._think(request):
                if isinstance(chunk, Completed):
                    attempt.usage, attempt.outcome, attempt.finish, attempt.basis = (
                        chunk.usage,
                        "ok",
                        chunk.stop,
                        "provider",
                    )
                yield chunk
        finally:
            attempt.ended = time.monotonic()


def turn(request: ModelRequest) -> list[Message]:
    """The messages since the user spoke last."""
    last = max(at for at, message in enumerate(request.messages) if message.role == "user")
    return list(request.messages[last:])


def orders(text: str) -> list[tuple[str, str]]:
    """Every order in a text, also in what can be decoded of it: `CALL name {arguments}`."""
    texts = [text, codecs.encode(text, "rot13"), text[::-1], text.replace('\\"', '"')]
    for run in _BASE64.findall(text):
        try:
            texts.append(base64.b64decode(run + "=" * (-len(run) % 4)).decode())
        except ValueError:
            continue
    return list(dict.fromkeys(found for told in texts for found in _ORDER.findall(told)))


def hijacked(targets: Sequence[str], *, waves: int = 3) -> Callable[[ModelRequest], Sequence[ModelChunk]]:
    """A model that reads what it is asked to read, and then is whoever's words it has read.

    It obeys every order that it can read or decode, and where it finds none calls each of `targets` with the attacker's
    text: among harmless calls, again after a refusal, under names in other letters, with other arguments. Poison of earlier
    turns counts.
    """

    def think(request: ModelRequest) -> Sequence[ModelChunk]:
        now = turn(request)
        asked = now[0].content
        said = sum(message.role == "assistant" for message in now)
        poison = "\n".join(m.content for m in request.messages if m.role == "tool" or "<untrusted" in m.content)
        if said == 0 and (wanted := re.search(r"read with (\w+)", asked)):
            return says("", (f"{now[0].id}-0", wanted[1], '{"what":"it"}'))
        if not poison or said > waves or request.tool_choice == "none":
            return says("done")
        wave = said - 1
        calls = orders(poison) or [(name, _json({"what": poison[-80:], "amount": 9000})) for name in targets]
        if wave == 1:
            calls = (
                [(name.title(), text) for name, text in calls]
                + [(f"{name} ", text) for name, text in calls]
                + calls[:1]
            )
        elif wave == 2:
            calls = [(name, _json({"what": "other", "amount": 1})) for name, _ in calls[:1]]
        made = [(f"{now[0].id}-{said}-{n}", name, text) for n, (name, text) in enumerate(calls)]
        return says("", *made[:1], (f"{now[0].id}-{said}-ok", "calculator", '{"expression":"1+1"}'), *made[1:])

    return think


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Uses:
    """`ToolUses` that counts nothing."""

    async def use(self, use: ToolUse, caps: Caps) -> None:
        return None


class Watched:
    """Between the policy and the tools: what runs above `low` has an approval in its run's journal, for itself and as it is.

    `landed` are the calls above `low` that ran; `unapproved` those that had no right to.
    """

    def __init__(self, tools: Iterable[DeclaredTool]) -> None:
        self._tools = PythonToolbox(tools=tools)
        self.events: Any = None
        self.landed: list[ToolCall] = []
        self.unapproved: list[str] = []
        self.trusting = False

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        return self._tools.specs(names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        if spec is not None and spec.risk != "low" and not self.trusting:
            self.landed.append(call)
            if not approved(await self.events(context.run_id), call):
                self.unapproved.append(f"{call.name} {call.arguments}")
        return await self._tools.run(spec, call, context)

    async def aclose(self) -> None:
        await self._tools.aclose()


def approved(journal: Iterable[ev.StoredEvent], call: ToolCall) -> bool:
    """Whether that journal has an approval under the call's id for the arguments that it is about to run with."""
    made: dict[str, ToolCall] = {}
    asked: dict[str, str] = {}
    for stored in journal:
        event = ev.decode(stored)
        if isinstance(event, ev.MessageCompleted):
            made |= {c.id: c for c in event.message.tool_calls}
        elif isinstance(event, ev.ApprovalRequested):
            asked[event.approval.call_id] = event.digest
        elif isinstance(event, ev.ApprovalResolved) and event.call_id == call.id and event.decision == "approved":
            wished = made[call.id]
            if asked.get(call.id) != digest(wished.name, wished.arguments) or wished.name != call.name:
                return False
            return bool(msgspec.json.decode(event.arguments or wished.arguments) == msgspec.json.decode(call.arguments))
    return False


def guarded(tools: Iterable[DeclaredTool]) -> tuple[GuardedToolbox, Watched]:
    watched = Watched(tools)
    return GuardedToolbox(toolbox=watched, uses=Uses()), watched


def effector(name: str, risk: Risk = "high", effect: Effect = "write") -> DeclaredTool:
    """A tool that takes anything that an attacker could wish to say."""

    @tool(name=name, risk=risk, effect=effect)
    async def act(what: str = "", amount: float = 0, more: dict[str, Any] | None = None) -> str:
        """Do it."""
        return "done"

    return declare(act)


def reader(name: str, text: Callable[[], str], risk: Risk = "low") -> DeclaredTool:
    """A tool that reads outside."""

    @tool(name=name, risk=risk, effect="read")
    async def read(what: str = "") -> str:
        """Read it."""
        return text()

    return declare(read)
