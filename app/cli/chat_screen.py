"""What a person sees of a run: text as it grows, a line for each tool call, a spinner while nothing comes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC
from typing import Any, TextIO

import msgspec

from app.domain import events as ev
from app.domain.approvals import Grounds, PendingApproval
from app.domain.changes import Change
from app.domain.tools import result_text
from app.runs.stream import Item

TICK = 0.1
"""Seconds between two pictures of the spinner."""
SHOWN = 100
"""Characters of a tool's arguments, and of its result, that are shown."""
_PICTURES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STRUCTS: dict[str, Any] = {**ev.EVENTS, **ev.DELTAS}


def harmless(text: str) -> str:
    """`text` without what would steer a terminal: only line ends and tabs remain of the controls."""
    return _UNSAFE.sub("", text)


def shortened(text: str) -> str:
    """One line, no longer than `SHOWN`."""
    line = " ".join(harmless(text[: 4 * SHOWN]).split())
    return line if len(line) <= SHOWN and len(text) <= 4 * SHOWN else f"{line[:SHOWN]}…"


def call_line(name: str, arguments: Any) -> str:
    """A tool call as one would write it: `name(key="value")`."""
    if isinstance(arguments, dict):
        told = ", ".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in arguments.items())
    else:
        told = str(arguments)
    return f"{harmless(name)}({shortened(told)})"


def exactly(data: Any) -> str:
    """`data` as JSON over several lines, whole; what would steer or confuse a terminal is written as escapes."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Screen:
    """Writes to `out`, and errors to `errors`. On a terminal with colour and a spinner, else plain lines."""

    def __init__(self, *, out: TextIO, errors: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._errors = errors
        self.live = out.isatty() and environ.get("TERM") != "dumb"
        self._colour = self.live and not environ.get("NO_COLOR")
        self._line_open = False
        self._spinning: str | None = None
        self._since = 0.0
        self._picture = 0
        self._run = _Shown()

    def painted(self, text: str, code: str) -> str:
        """`text` in that colour, where there are colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def line(self, text: str = "", code: str = "") -> None:
        """One line of its own."""
        self.end_line()
        self._write(f"{self.painted(text, code) if code else text}\n")

    def notice(self, text: str) -> None:
        """Something beside the conversation."""
        self.line(text, "2")

    def error(self, text: str) -> None:
        """What went wrong, as one line, on `errors`."""
        self.end_line()
        told = f"error: {' '.join(harmless(text).split())}"
        self._errors.write(f"{self.painted(told, '31')}\n")
        self._errors.flush()

    def wait(self, what: str) -> None:
        """From now on nothing is shown but that we wait; only on a terminal, and not in the middle of a line."""
        if self._spinning is None:
            self._since = time.monotonic()
        self._spinning = what

    def tick(self) -> None:
        """The spinner's next picture."""
        if self._spinning is None or not self.live or self._line_open:
            return
        seconds = int(time.monotonic() - self._since)
        told = f"{_PICTURES[self._picture % len(_PICTURES)]} {self._spinning}{f' {seconds} s' if seconds > 1 else ''}"
        self._picture += 1
        self._out.write(f"\r\x1b[K{self.painted(told, '2')}")
        self._out.flush()

    def quiet(self) -> None:
        """End the spinner, leaving nothing of it."""
        if self._spinning is not None:
            self._spinning = None
            if self._picture:
                self._out.write("\r\x1b[K")
                self._out.flush()
            self._picture = 0

    def begin(self) -> None:
        """A new run is going to be shown."""
        self._run = _Shown()
        self.wait("thinking")

    def show(self, item: Item) -> None:
        """One item of a run's stream. What was shown before is not shown again."""
        struct = _STRUCTS.get(item.name)
        if struct is None:  # a name from the future
            return
        event = msgspec.json.decode(item.payload, type=struct)
        if isinstance(event, ev.MessageDelta):
            self._delta(event)
        elif isinstance(event, ev.MessageCompleted):
            self.end_line()
            if event.message.role == "assistant":
                self._run.last = event.message.content
            self.wait("thinking")
        elif isinstance(event, ev.MessageReset):
            if event.message_id == self._run.message_id and self._run.length:
                self.notice("(the text above was withdrawn)")
            self.wait("thinking")
        elif isinstance(event, ev.ToolStarted):
            self._run.calls[event.call_id] = call_line(event.name, event.arguments)
            self.wait(", ".join(self._run.calls.values())[:SHOWN])
        elif isinstance(event, ev.ToolFinished):
            self._tool(event)
        elif isinstance(event, ev.ApprovalRequested):
            self._run.calls[event.approval.call_id] = call_line(event.approval.name, event.approval.arguments)
        elif isinstance(event, ev.ApprovalResolved):
            for change in event.changes:
                self.notice(f"(changed {harmless(_change(change))})")
        elif isinstance(event, ev.RunWaiting):
            self.end_line()
            if not event.approvals:
                self.notice(f"(the run waits: {event.stop_reason})")
        elif isinstance(event, ev.RunFinished):
            self._finished(event)

    def question(self, approval: PendingApproval) -> None:
        """A call on which a person must decide, with exactly its arguments, why they are asked, and what the model had read before."""
        self.line(f"{harmless(approval.name)} wants to run (risk {approval.risk}) with", "33")
        for line in exactly(approval.arguments).split("\n"):
            self.line(f"  {line}")
        if approval.grounds is not msgspec.UNSET:
            self.notice(f"why: {harmless(approval.grounds.reason)}")
            if approval.grounds.results:
                self.notice(f"after results of: {_tools(approval.grounds)}")
        self.notice(f"until: {approval.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")

    def _delta(self, event: ev.MessageDelta) -> None:
        run = self._run
        if event.message_id != run.message_id:
            self.end_line()
            run.message_id, run.length = event.message_id, 0
        text = event.text[max(run.length - event.offset, 0) :]
        run.length = max(run.length, event.offset + len(event.text))
        if text:
            self.quiet()
            self._write(harmless(text))

    def _tool(self, event: ev.ToolFinished) -> None:
        call = self._run.calls.pop(event.call_id, None)
        if call is None:  # shown already
            return
        good = event.status == "ok"
        mark = self.painted("✓", "32") if good else self.painted("✗", "31")
        told = f" {shortened(result_text(event.result))}"
        self.line(f"{mark} {call} {self.painted('→' if good else event.status, '2')}{told}")
        waiting = ", ".join(self._run.calls.values())
        self.wait(waiting[:SHOWN] or "thinking")

    def _finished(self, event: ev.RunFinished) -> None:
        self.end_line()
        if event.status != "succeeded":
            why = event.error.detail if event.error is not None else f"the run {event.status}"
            self.error(f"{why} ({event.error.code if event.error is not None else event.stop_reason})")
            return
        if not _same(event.output, self._run.last):
            output = event.output if isinstance(event.output, str) else msgspec.json.encode(event.output).decode()
            self.line(harmless(output))
        if event.stop_reason != "completed" or event.degraded:
            self.notice(f"({'degraded: ' if event.degraded else 'ended early: '}{event.stop_reason})")

    def _write(self, text: str) -> None:
        self.quiet()
        self._out.write(text)
        self._out.flush()
        self._line_open = not text.endswith("\n")

    def end_line(self) -> None:
        """What comes next begins a line of its own."""
        self.quiet()
        if self._line_open:
            self._write("\n")


def _tools(grounds: Grounds) -> str:
    """The tools whose results the model had read, each once."""
    read = Counter(harmless(source.tool) for source in grounds.results)
    told = ", ".join(f"{tool} ({count} times)" if count > 1 else tool for tool, count in read.items())
    return f"{told} and {grounds.more} before" if grounds.more else told


def _change(change: Change) -> str:
    old, new = ("nothing" if value is msgspec.UNSET else exactly(value) for value in (change.old, change.new))
    return f"{change.path or 'all of it'}: {old} → {new}"


class _Shown:
    """What of a run is on the screen: the message that grows, the calls that go on, the last whole message."""

    def __init__(self) -> None:
        self.message_id: str | None = None
        self.length = 0
        self.calls: dict[str, str] = {}
        self.last: str | None = None


def _same(output: Any, text: str | None) -> bool:
    """Whether that message was the output."""
    if text is None or isinstance(output, str):
        return output is None or output == text
    try:
        return bool(msgspec.json.decode(text) == output)
    except (msgspec.DecodeError, UnicodeError):
        return False
