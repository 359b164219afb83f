"""Logs: one JSON object a line, or coloured lines on a terminal; every line with the ids of what it is about.

A line never holds prompts, arguments or answers unless a caller of `logging` puts them there, and none of ours does.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec
from opentelemetry.trace import get_current_span

from app.domain.text import clean
from app.telemetry import context
from app.telemetry.hiding import Hiding

Format = Literal["json", "pretty", "auto"]

PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes that every record has; all others came through `extra`."""
QUIET = ("openai", "anthropic", "httpx2", "httpcore2", "httpx", "httpcore", "aiohttp", "urllib3", "asyncio")
"""Libraries that say too much below WARNING: the SDKs write whole prompts at DEBUG."""
COLOURS = {"DEBUG": "2", "INFO": "36", "WARNING": "33", "ERROR": "31", "CRITICAL": "41"}
# JSON escapes what is below 0x20; these remain, and some readers end a line at them.
_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure_logging(
    *, level: str = "info", format: Format = "auto", stream: TextIO | None = None, secrets: Collection[str] = ()
) -> None:
    """Every logger of this process writes to `stream` (standard error) from now on, and Python's warnings do too.

    `level` is a name in any case; raises ValueError for one that does not exist. `auto` is pretty on a terminal. No line has
    one of the `secrets`.
    """
    stream = sys.stderr if stream is None else stream
    pretty = format == "pretty" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    formatter = PrettyFormatter(colour=stream.isatty()) if pretty else JsonFormatter()
    handler.setFormatter(Hiding(formatter=formatter, secrets=secrets) if secrets else formatter)
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = [handler]
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
            logger.disabled = False
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It writes a traceback for each attempt while the database is away, and raises the same error to us.
    logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    # Documented in Python's logging HOWTO: no formatter of ours shows where a line was written, so nobody looks it up.
    logging._srcfile = None


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, whatever is in it."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder(enc_hook=_text)

    def format(self, record: logging.LogRecord) -> str:
        """Never raises and never holds a line break."""
        try:
            fields = _fields(record)
        except Exception as error:  # noqa: BLE001  # a record that cannot be read is still worth its line
            fields = _unreadable(record, error)
        try:
            line = self._encoder.encode(fields).decode()
        except Exception:  # noqa: BLE001  # lone surrogates, keys that are no strings, nesting without an end
            plain = {clean(str(name)): _plain(value) for name, value in fields.items()}
            line = self._encoder.encode(plain).decode()
        return line if line.isascii() else _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


class PrettyFormatter(logging.Formatter):
    """A record for a person: time, level, event, then what else is known. Tracebacks take lines of their own."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Never raises. Control characters of the data are shown, not sent to the terminal."""
        try:
            fields = _fields(record)
        except Exception as error:  # noqa: BLE001  # as above
            fields = _unreadable(record, error)
        level, event = record.levelname, fields.pop("event")
        time: datetime = fields.pop("time")
        trace = fields.pop("exception", None)
        shown = {
            name: value for name, value in fields.items() if name not in ("level", "logger", "trace_id", "span_id")
        }
        data = "".join(f" {name}={_visible(_text(value))}" for name, value in shown.items())
        head, tail = f"{level:<7}", f"{data} ({record.name})"
        if self._colour:
            head, tail = f"\x1b[{COLOURS.get(level, '0')}m{head}\x1b[0m", f"\x1b[2m{tail}\x1b[0m"
        line = f"{time.astimezone():%H:%M:%S} {head} {_visible(_text(event))}{tail}"
        if trace is None:
            return line
        return "\n".join([line, *(f"    {_visible(part)}" for part in str(trace).splitlines())])


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The record as an object: our names first, then the ids, then what came through `extra`."""
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": _message(record),
    }
    span = get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = f"{span.trace_id:032x}"
        fields["span_id"] = f"{span.span_id:016x}"
    request_id = context.request_id.get()
    if request_id is not None:
        fields["request_id"] = request_id
    run = context.run.get()
    if run is not None:
        fields["run_id"] = run.run_id
        fields["session_id"] = run.session_id
        if run.user_id is not None:
            fields["user_id"] = run.user_id
    for name, value in record.__dict__.items():
        if name not in PLAIN and fields.get(name) is None:
            fields[name] = value
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    elif record.exc_text:
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  # arguments that do not fit their format
        return f"{_text(record.msg)} {_text(record.args)}"


def _unreadable(record: logging.LogRecord, error: Exception) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": "log_record_unreadable",
        "error": type(error).__qualname__,
    }


def _text(value: object) -> str:
    """A value as text, also one that refuses to be."""
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # somebody's __str__ or __repr__; also RecursionError
        return f"<{type(value).__qualname__}: {type(error).__qualname__}>"


def _plain(value: object) -> object:
    """A value that can certainly be encoded."""
    return value if isinstance(value, datetime) else clean(_text(value))


def _visible(text: str) -> str:
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", clean(text))
