"""Runs the declared tools: whatever a model sends and whatever a tool does ends as a `ToolResult`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from app.domain.messages import ToolCall
from app.domain.text import clean
from app.domain.tools import ToolContext, ToolResult, ToolSpec, ToolStatus
from app.tools.declare import DeclaredTool

MAX_ARGUMENTS = 1_000_000
"""Characters of JSON arguments; more is refused unread."""
MAX_RESULT = 256 * 1024
"""UTF-8 bytes of a result that the model gets; more is cut, and a marker at the end says so."""
MAX_ERROR = 2_000
"""Characters of an exception's message that the model gets."""
FIRST_PAUSE = 0.2
"""Seconds before the first repetition, doubled for each further one, times a random 0.5 to 1.5."""

logger = logging.getLogger(__name__)
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class _NotStarted(Exception):
    """The tool never ran; the message says why."""


class _Progress:
    """How far one call came."""

    started = False


class PythonToolbox:
    """The tools that are Python functions; implements `app.domain.tools.Toolbox`.

    `async def` tools run in the caller's task. Plain `def` tools run in threads of this toolbox, at most `threads` at once. A
    thread cannot be stopped: after a timeout or a cancel it keeps its place until the function returns, and a call that
    finds every place taken waits for one within its own timeout.

    When the time is up, a call that never started, and a `read` or `idempotent` tool, is a plain failure; a `write` that had
    started is `outcome_unknown`, since nobody saw its end. Cancellation is raised: whoever cancels records by the same
    rule. An `async def` tool that refuses to be cancelled keeps its caller waiting; what it then returns is kept.
    """

    def __init__(
        self,
        *,
        tools: Iterable[DeclaredTool],
        threads: int = 32,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tools: dict[str, DeclaredTool] = {}
        for entry in tools:
            if entry.spec.name in self._tools:
                raise ValueError(f"two tools are named {entry.spec.name}")
            self._tools[entry.spec.name] = entry
        self._threads = threads
        self._places = asyncio.Semaphore(threads)
        self._running: dict[int, str] = {}
        self._pause = pause
        self._closed = False

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        """The tools of these names, in that order. Raises KeyError with the first unknown name."""
        return tuple(self._tools[name].spec for name in names)

    def all(self) -> tuple[ToolSpec, ...]:
        """Every tool, in the order given."""
        return tuple(entry.spec for entry in self._tools.values())

    async def aclose(self) -> None:
        """Nothing starts from now on. Threads that are still busy are daemons: they are named in the log and end with the process."""
        self._closed = True
        if self._running:
            logger.warning("plain tools still running: %s", ", ".join(sorted(self._running.values())))

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        """Decode and validate the arguments, then run the tool within its timeout and the context's deadline, whichever is first.

        A failed `read` or `idempotent` tool is repeated up to `spec.retry` times within the same time and with the same context.
        """
        entry = self._tools.get(call.name)
        if spec is None or entry is None:
            return _failure(
                call, "error", f"There is no tool named {call.name}. Use one of the tools you were given, or none."
            )
        try:
            arguments = _decode(entry, call.arguments)
        except ValueError as error:
            return _failure(call, "error", str(error))
        left = context.deadline - time.monotonic()
        limit = min(spec.timeout, left)
        late = "the run has no time left" if left < spec.timeout else f"{call.name} has {spec.timeout:g} s"
        if limit <= 0:
            return _failure(call, "timeout", f"{call.name} was not started: {late}.")
        for name in entry.contexts:
            arguments[name] = context
        return await self._timed(entry, spec, call, arguments, limit, late)

    async def _timed(
        self, entry: DeclaredTool, spec: ToolSpec, call: ToolCall, arguments: dict[str, Any], limit: float, late: str
    ) -> ToolResult:
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        progress = _Progress()
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                value = await self._repeated(entry, spec, arguments, time.monotonic() + limit, progress)
            return _success(call, value)
        except _NotStarted as error:
            return _failure(call, "error", f"{call.name} was not started: {error}.")
        except asyncio.CancelledError as error:
            if task and task.cancelling() > cancels:
                raise
            failure: BaseException = error  # the tool awaited something that somebody else had cancelled
        except (Exception, SystemExit) as error:
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError from error  # the tool made its own error out of our cancel
            failure = error
        if scope.expired() and not progress.started:
            busy = ", ".join(sorted(set(self._running.values())))
            text = f"{call.name} was not started: all {self._threads} tool threads are busy (with {busy}). Try again later."
            return _failure(call, "error", text)
        if scope.expired():
            if spec.effect == "write":
                text = f"{call.name} did not finish in time ({late}). It may have taken effect: find out before you call it again."
                return _failure(call, "outcome_unknown", text)
            return _failure(call, "timeout", f"{call.name} did not finish in time: {late}.")
        logger.warning("tool %s failed: %s", call.name, type(failure).__name__, extra={"at": _place(failure)})
        return _failure(call, "error", _described(failure))

    async def _repeated(
        self, entry: DeclaredTool, spec: ToolSpec, arguments: dict[str, Any], end: float, progress: _Progress
    ) -> Any:
        repetitions = 0 if spec.effect == "write" else spec.retry
        for repetition in range(repetitions):
            try:
                return await self._once(entry, arguments, progress)
            except _NotStarted:
                raise
            except Exception as error:
                pause = FIRST_PAUSE * 2**repetition * random.uniform(0.5, 1.5)
                if time.monotonic() + pause >= end:
                    raise
                logger.info("tool %s is repeated after %s", spec.name, type(error).__name__)
                await self._pause(pause)
        return await self._once(entry, arguments, progress)

    async def _once(self, entry: DeclaredTool, arguments: dict[str, Any], progress: _Progress) -> Any:
        if self._closed:
            raise _NotStarted("the service is shutting down")
        if inspect.iscoroutinefunction(entry.function):
            progress.started = True
            return await entry.function(**arguments)
        value = await self._in_thread(entry, arguments, progress)
        return await value if inspect.isawaitable(value) else value

    async def _in_thread(self, entry: DeclaredTool, arguments: dict[str, Any], progress: _Progress) -> Any:
        await self._places.acquire()
        if self._closed:
            self._places.release()
            raise _NotStarted("the service is shutting down")
        progress.started = True
        loop = asyncio.get_running_loop()
        end: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        variables = contextvars.copy_context()

        def ended(value: Any, error: BaseException | None) -> None:
            del self._running[id(thread)]
            self._places.release()
            if not end.done():
                end.set_result((value, error))

        def work() -> None:
            value, failure = None, None
            try:
                value = variables.run(entry.function, **arguments)
            except BaseException as error:  # noqa: BLE001 - travels to the caller
                failure = error
            try:
                loop.call_soon_threadsafe(ended, value, failure)
            except RuntimeError:
                logger.info("tool %s ended after its event loop", entry.spec.name)

        thread = threading.Thread(target=work, name=f"tool {entry.spec.name}", daemon=True)
        self._running[id(thread)] = entry.spec.name
        try:
            thread.start()
        except RuntimeError as error:
            del self._running[id(thread)]
            self._places.release()
            raise _NotStarted(f"no thread could be started ({error})") from error
        value, failure = await end
        if failure is not None:
            raise failure
        return value


def _decode(entry: DeclaredTool, text: str) -> dict[str, Any]:
    """The arguments by name. Raises ValueError with what the model must change."""
    if len(text) > MAX_ARGUMENTS:
        raise ValueError(f"The arguments are longer than {MAX_ARGUMENTS} characters. Send less.")
    try:
        decoded = msgspec.json.decode(text.strip() or "{}", type=entry.arguments)
    except msgspec.ValidationError as error:
        raise ValueError(f"Invalid arguments: {error}. {_expected(entry)}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"The arguments are not valid JSON ({error}). {_expected(entry)}") from error
    except RecursionError as error:
        raise ValueError(f"The arguments are nested too deeply. {_expected(entry)}") from error
    except Exception as error:  # a type's own __post_init__ may raise anything
        raise ValueError(f"Invalid arguments: {_described(error)}. {_expected(entry)}") from error
    return {name: getattr(decoded, name) for name in entry.arguments.__struct_fields__}


def _expected(entry: DeclaredTool) -> str:
    required = entry.spec.schema.get("required", [])
    fields = [f"{name} (required)" if name in required else name for name in entry.spec.schema["properties"]]
    return f"Call {entry.spec.name} again with one JSON object of: {', '.join(fields) or 'no fields'}."


def _place(error: BaseException) -> str:
    """Where it was raised: a line of code, and neither its text nor what the failure says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _described(error: BaseException) -> str:
    """Class and message, never a traceback: that would show the code and its secrets to the model."""
    try:
        message = clean(str(error))[:MAX_ERROR]
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _failure(call: ToolCall, status: ToolStatus, text: str) -> ToolResult:
    result = msgspec.Raw(msgspec.json.encode(clean(text)))
    return ToolResult(call_id=call.id, name=call.name, status=status, result=result)


def _success(call: ToolCall, value: Any) -> ToolResult:
    """The value as JSON, without NUL and lone surrogates, and cut where it is too long."""
    try:
        data = _encoded(value)
    except (TypeError, ValueError, RecursionError) as error:
        return _failure(call, "error", f"{call.name} ran, but what it returned is not JSON: {_described(error)}")
    return ToolResult(call_id=call.id, name=call.name, status="ok", result=msgspec.Raw(data))


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        text = clean(value).encode()
        return msgspec.json.encode(text.decode() if len(text) <= MAX_RESULT else _cut(text))
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_scrubbed(value))
    if b"\\u0000" in data:
        data = _NUL.sub(rb"\1\\ufffd", data)
    return data if len(data) <= MAX_RESULT else msgspec.json.encode(_cut(data))


def _cut(text: bytes) -> str:
    kept = text[:MAX_RESULT].decode("utf-8", "ignore")
    return f"{kept}… [cut: this is the beginning of {len(text)} bytes]"


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    return [_scrubbed(item) for item in value] if isinstance(value, (list, tuple)) else value
