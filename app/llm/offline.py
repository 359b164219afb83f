"""The provider that needs no key: no model, no network, no randomness, and honest about it.

It reads arithmetic and questions for the time out of the last user message, lets `calculator` and `clock` answer where the
agent has them, and says of everything else that it cannot think. So every path of the loop can be tried on a fresh machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

import msgspec

from app.domain.messages import Message, ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelChunk, ModelRequest, TextDelta
from app.domain.text import clean
from app.llm.arithmetic import expressions
from app.llm.instance import instance

ECHO = 200
"""Characters of the question that an answer repeats."""
NOTICE = "This is the offline provider: no model is configured."

_TIME = re.compile(
    r"\bwhat(?:'s|’s|\s+is)?\s+(?:the\s+)?(?:current\s+|local\s+|exact\s+)?(?:time|date|day|weekday)\b(?!s)"
    r"|\b(?:current|local)\s+(?:time|date|day)\b|\btime\s+is\s+it\b|\btoday['’]?s\s+date\b|\b(?:which|what)\s+(?:week)?day\b"
    r"|\b(?:tell|give)\s+me\s+the\s+(?:time|date)\b|\btime\s+(?:now|in\s+[A-Z])",
    re.IGNORECASE,
)
_ZONE = re.compile(r"\b(?:[A-Z][A-Za-z_]+/[A-Z][A-Za-z_+-]+(?:/[A-Z][A-Za-z_]+)?|UTC|GMT)\b")
_CITIES = {
    "berlin": "Europe/Berlin",
    "london": "Europe/London",
    "paris": "Europe/Paris",
    "zurich": "Europe/Zurich",
    "moscow": "Europe/Moscow",
    "new york": "America/New_York",
    "chicago": "America/Chicago",
    "los angeles": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "sao paulo": "America/Sao_Paulo",
    "dubai": "Asia/Dubai",
    "singapore": "Asia/Singapore",
    "shanghai": "Asia/Shanghai",
    "tokyo": "Asia/Tokyo",
    "sydney": "Australia/Sydney",
}
_CITY = re.compile(rf"\b(?:{'|'.join(_CITIES)})\b", re.IGNORECASE)


class _Calculation(msgspec.Struct, frozen=True):
    """Arguments of the calculator."""

    expression: str


class _Moment(msgspec.Struct, frozen=True):
    """What the clock answers."""

    time: str
    weekday: str
    timezone: str


_CALCULATION = msgspec.json.Decoder(_Calculation)
_MOMENT = msgspec.json.Decoder(_Moment)


class OfflineTarget:
    """One model of the offline provider; implements `app.domain.models.Target`.

    The same request always gives the same answer. Usage is zero tokens and costs nothing, which is known and not a guess: no model read or
    wrote any.
    """

    def __init__(self, *, provider: str = "offline", model: str = "offline-1") -> None:
        self.provider = provider
        self.system = "offline"
        self.model = model

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        """Calls of the tools that the last user message needs, or else an answer, word by word and without a pause."""
        attempt.usage = Usage(
            input_tokens=0, cached_input_tokens=0, cache_write_tokens=0, output_tokens=0, reasoning_tokens=0
        )
        attempt.basis, attempt.cost_usd = "provider", Decimal(0)
        attempt.response_model = self.model
        calls, text = _reaction(request)
        content = clean(text)
        attempt.finish = "tool_calls" if calls else "stop"
        for piece in re.findall(r"\s*\S+|\s+$", content):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        yield Completed(
            content=content,
            tool_calls=calls,
            stop=attempt.finish,
            usage=attempt.usage,
            response_model=self.model,
        )


def _reaction(request: ModelRequest) -> tuple[tuple[ToolCall, ...], str]:
    """The calls to make, or the text of the answer."""
    asked = max((i for i, message in enumerate(request.messages) if message.role == "user"), default=-1)
    question = clean(request.messages[asked].content) if asked >= 0 else ""
    turn = request.messages[asked + 1 :]
    wishes = _wishes(question)
    if any(message.role == "tool" for message in turn):
        lines, number = _reported(turn)
    else:
        available = {tool.name for tool in request.tools} if request.tool_choice == "auto" else set()
        calls = [(name, arguments) for name, arguments in wishes if name in available]
        if calls:
            prefix = request.messages[asked].id
            return tuple(ToolCall(_id(prefix, n), name, arguments) for n, (name, arguments) in enumerate(calls)), ""
        lines, number = [], None
    if request.output_schema is not None:
        answer = " ".join(lines) or f"{NOTICE} It cannot answer: {_shortened(question)}"
        return (), msgspec.json.encode(instance(request.output_schema, answer, number)).decode()
    if lines:
        return (), "\n".join([*lines, "", NOTICE])
    return (), _helpless(request, question, [name for name, _ in wishes])


def _wishes(question: str) -> list[tuple[str, str]]:
    """Tool and JSON arguments for everything in the question that a tool could answer."""
    wishes = [("calculator", {"expression": expression}) for expression in expressions(question)]
    if _TIME.search(question):
        zones = _ZONE.findall(question) + [_CITIES[city.lower()] for city in _CITY.findall(_ZONE.sub("", question))]
        wishes += [("clock", {"timezone": zone}) for zone in dict.fromkeys(zones[:4])] or [("clock", {})]
    return [(name, msgspec.json.encode(arguments).decode()) for name, arguments in wishes]


def _reported(turn: Sequence[Message]) -> tuple[list[str], int | float | None]:
    """A sentence for each tool result of this turn, and the number where it is the only one."""
    called = {call.id: call for message in turn for call in message.tool_calls}
    results = [message for message in turn if message.role == "tool"]
    lines = [_sentence(message, called.get(message.call_id or "")) for message in results]
    number = _number(results[0].content) if len(results) == 1 and not results[0].is_error else None
    return lines, number


def _sentence(message: Message, call: ToolCall | None) -> str:
    name = message.name or (call.name if call else "tool")
    subject = name
    if name == "calculator" and call:
        try:
            subject = _CALCULATION.decode(call.arguments).expression
        except (msgspec.DecodeError, UnicodeError):
            subject = f"{name} {call.arguments}"
    if message.is_error:
        return f"{subject}: the tool {name} failed: {message.content}"
    if name == "calculator":
        return f"{subject} = {message.content}"
    if name == "clock":
        try:
            moment = _MOMENT.decode(message.content)
        except (msgspec.DecodeError, UnicodeError):
            return f"clock: {message.content}"
        return f"It is {moment.weekday}, {moment.time} ({moment.timezone})."
    return f"{name}: {message.content}"


def _number(text: str) -> int | float | None:
    if not re.fullmatch(r"-?[0-9]{1,300}(?:\.[0-9]{1,300})?", text):
        return None
    return float(text) if "." in text else int(text)


def _helpless(request: ModelRequest, question: str, needed: Sequence[str]) -> str:
    """Why there is no answer, and what would give one."""
    if needed:
        missing = " and ".join(sorted(set(needed)))
        why = (
            "tools must not be called now"
            if request.tools and request.tool_choice == "none"
            else "this agent may not use it"
        )
        first = f"{NOTICE} It could answer only with {missing}, but {why}."
    else:
        first = f"{NOTICE} It cannot think, only calculate (“What is 12 * 7?”) and tell the time (“What time is it in Europe/Berlin?”)."
    return (
        f"{first}\nYou asked: {_shortened(question) or '(nothing)'}\n"
        f'For real answers write chain = ["openai/MODEL"] or ["anthropic/MODEL"] under [models.{request.route}] in steadyhand.toml, '
        "set OPENAI_API_KEY or ANTHROPIC_API_KEY, and start again."
    )


def _shortened(question: str) -> str:
    line = " ".join(question[: 4 * ECHO].split())
    return line if len(line) <= ECHO else f"{line[:ECHO]}…"


def _id(message_id: str, number: int) -> str:
    """Unique in the session, because message ids are, and the same every time."""
    return f"call_{hashlib.sha256(f'{message_id} {number}'.encode()).hexdigest()[:24]}"
