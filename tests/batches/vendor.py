"""A vendor with a Batch API on a real socket: OpenAI's files and batches, Anthropic's message batches. It counts what it was asked.

async with vendor() as v:
    v.answers["What is 1?"] = "one"      # or Errs(…), or "expired"; by the text of the request's last user message; else an echo
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from tests.batches import answers, http

BASE = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Errs(msgspec.Struct, frozen=True):
    """A request that fails inside the batch."""

    status: int
    type: str
    message: str = "as the test wants it"


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer in the place of the right one; `cut`: the connection ends without one; `after`: the request is served all the same.
    `beside` is called first: what others do at that moment.
    """

    status: int = 500
    body: Any = None
    headers: dict[str, str] = {}
    cut: bool = False
    after: bool = False
    beside: Callable[[], object] = lambda: None


class Remote(msgspec.Struct):
    """A batch at the vendor. `lines` are its requests; `state` in_progress, ended, cancelled, expired, failed."""

    id: str
    number: int
    lines: list[dict[str, Any]]
    metadata: dict[str, str]
    state: str = "in_progress"
    polls: int = 0
    endpoint: str = ""
    headers: dict[str, str] = {}

    @property
    def at(self) -> datetime:
        return BASE + timedelta(seconds=self.number)


class Vendor:
    """`ends_after` polls a batch has ended; None: when `end` says so. `held` requests to create a batch wait for that event, once stored."""

    def __init__(self) -> None:
        self.url = ""
        self.remotes: dict[str, Remote] = {}
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, str | Errs | list[str | Errs]] = {}
        self.ends_after: int | None = 1
        self.replies: list[tuple[str, Reply]] = []
        self.garbage: list[bytes] = []
        self.repeated = False
        self.forgets: set[str] = set()
        self.created = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.results_begun = asyncio.Event()
        self.results_hold: asyncio.Event | None = None
        self.results_read = 0
        self.cancelled: list[str] = []
        self.polls = 0
        self.asked: list[str] = []
        self._numbers = iter(range(1, 10_000))
        self._random = random.Random(7)

    @property
    def sent(self) -> int:
        """Requests in all batches."""
        return sum(len(remote.lines) for remote in self.remotes.values())

    def only(self) -> Remote:
        (remote,) = self.remotes.values()
        return remote

    def stranger(self, kind: Literal["openai", "anthropic"], count: int, state: str = "in_progress") -> Remote:
        """A batch that somebody else made."""
        lines = [{"custom_id": f"theirs_{n}", "params": _asks(f"{n}"), "body": _asks(f"{n}")} for n in range(count)]
        return self._add(kind, lines, {}, state=state)

    def _add(self, kind: str, lines: list[dict[str, Any]], metadata: dict[str, str], **more: Any) -> Remote:
        number = next(self._numbers)
        name = f"msgbatch_{number}" if kind == "anthropic" else f"batch_{number}"
        remote = Remote(id=name, number=number, lines=lines, metadata=metadata, **more)
        self.remotes[name] = remote
        return remote

    # --- HTTP -----------------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *fields = head.split("\r\n")[:-2]
                method, target, _ = first.split()
                headers = {k.lower(): v.strip() for k, _, v in (field.partition(":") for field in fields)}
                body = await http.body(reader, headers)
                if not await self._reply(method, target, headers, body, writer):
                    break
        writer.close()

    async def _reply(
        self, method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        path, _, query = target.partition("?")
        self.asked.append(f"{method} {path}")
        wanted = next(
            (i for i, (pattern, _) in enumerate(self.replies) if re.fullmatch(pattern, f"{method} {path}")), None
        )
        reply = None if wanted is None else self.replies.pop(wanted)[1]
        if reply is not None:
            reply.beside()
        if reply is not None and not reply.after:
            if reply.cut:
                return False
            http.write(writer, reply.status, msgspec.json.encode(reply.body), reply.headers)
            return True
        options = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        answer = await self._route(method, path, options, headers, body)
        if reply is not None and reply.cut:
            return False
        if isinstance(answer, list):
            await self._stream(writer, answer)
        else:
            http.write(
                writer,
                200 if answer is not None else 404,
                msgspec.json.encode(answer or {"error": {"type": "not_found_error"}}),
            )
        return True

    async def _stream(self, writer: asyncio.StreamWriter, lines: list[bytes]) -> None:
        self.results_read += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-jsonl\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n, line in enumerate(lines):
            if n == len(lines) // 2 and self.results_hold is not None:
                await writer.drain()
                self.results_begun.set()
                await self.results_hold.wait()
            data = line + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _route(
        self, method: str, path: str, options: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Any:
        """The answer's JSON; a list of lines for a file; None: not found."""
        kind = "anthropic" if path.startswith("/v1/messages") else "openai"
        stem = "/v1/messages/batches" if kind == "anthropic" else "/v1/batches"
        shown = self._anthropic if kind == "anthropic" else self._openai
        if (method, path) == ("POST", "/v1/files"):
            name = f"file-{next(self._numbers)}"
            self.files[name] = http.file(headers, body)
            return {
                "id": name,
                "object": "file",
                "bytes": 1,
                "created_at": 1,
                "filename": "f",
                "purpose": "batch",
                "status": "processed",
            }
        if found := re.fullmatch(r"/v1/files/(.*)/content", path):
            batch_id, _, which = found[1].removeprefix("file-").partition("-")
            return self._openai_lines(self.remotes[batch_id], which)
        if (method, path) == ("POST", stem):
            remote = self._create(kind, headers, msgspec.json.decode(body))
            self.created.set()
            if self.hold is not None:
                await self.hold.wait()
            return shown(remote)
        if (method, path) == ("GET", stem):
            return self._page(kind, options, shown)
        found = re.fullmatch(re.escape(stem) + r"/([^/]*)(/.*)?", path)
        if found is None or found[1] not in self.remotes or found[1] in self.forgets:
            return None
        remote = self.remotes[found[1]]
        if found[2] == "/cancel":
            self.cancelled.append(remote.id)
            if remote.state == "in_progress":
                remote.state = "cancelled"
        elif found[2] == "/results":
            return self._anthropic_lines(remote)
        else:
            remote.polls += 1
            self.polls += 1
            if self.ends_after is not None and remote.polls >= self.ends_after and remote.state == "in_progress":
                remote.state = "ended"
        return shown(remote)

    def _create(self, kind: str, headers: dict[str, str], asked: dict[str, Any]) -> Remote:
        if kind == "anthropic":
            return self._add(kind, asked["requests"], {}, headers=headers)
        lines = [msgspec.json.decode(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert asked["completion_window"] == "24h"
        assert {line["url"] for line in lines} == {asked["endpoint"]}
        return self._add(kind, lines, asked["metadata"], endpoint=asked["endpoint"])

    def _page(self, kind: str, options: dict[str, str], shown: Callable[[Remote], Any]) -> Any:
        prefix = "msgbatch" if kind == "anthropic" else "batch"
        newest = [remote for remote in reversed(self.remotes.values()) if remote.id.startswith(prefix)]
        after = options.get("after") or options.get("after_id")
        if after is not None:
            newest = newest[[remote.id for remote in newest].index(after) + 1 :]
        limit = min(int(options.get("limit", "20")), 2)  # small pages, so that they are turned
        page = [shown(remote) for remote in newest[:limit]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"object": "list", "data": page, "has_more": len(newest) > limit, **ends}

    # --- shapes ---------------------------------------------------------------------------------------------------------

    def _openai(self, remote: Remote) -> Any:
        status = {"ended": "completed"}.get(remote.state, remote.state)
        files = remote.state in ("ended", "expired", "cancelled")
        return {
            "id": remote.id, "object": "batch", "endpoint": remote.endpoint, "input_file_id": "file-1",
            "completion_window": "24h", "status": status, "created_at": int(remote.at.timestamp()), "metadata": remote.metadata,
            "output_file_id": f"file-{remote.id}-output" if files else None,
            "error_file_id": f"file-{remote.id}-error" if files and self._openai_lines(remote, "error") else None,
            "errors": {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}
            if remote.state == "failed" else None,
        }  # fmt: skip

    def _anthropic(self, remote: Remote) -> Any:
        ended = remote.state in ("ended", "expired", "cancelled")
        kinds = [self._kind(remote, line) for line in remote.lines] if ended else ["processing"] * len(remote.lines)
        counts = {k: kinds.count(k) for k in ("processing", "succeeded", "errored", "canceled", "expired")}
        return {
            "id": remote.id, "type": "message_batch", "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts, "created_at": remote.at.isoformat(), "expires_at": (remote.at + timedelta(days=1)).isoformat(),
            "ended_at": None, "archived_at": None, "cancel_initiated_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{remote.id}/results" if ended else None,
        }  # fmt: skip

    def _kind(self, remote: Remote, line: dict[str, Any]) -> str:
        answer = self._answer(remote, line)
        if remote.state in ("cancelled", "expired") and answer is None:
            return "canceled" if remote.state == "cancelled" else "expired"
        return "errored" if isinstance(answer, Errs) else "expired" if answer == "expired" else "succeeded"

    def _answer(self, remote: Remote, line: dict[str, Any]) -> str | Errs | None:
        """What the test wants said; of a list the n-th time, in the n-th batch that has the question."""
        answer = self.answers.get(question := _question(line))
        if not isinstance(answer, list):
            return answer
        earlier = [r for r in self.remotes.values() if r.number < remote.number and question in map(_question, r.lines)]
        return answer[len(earlier)]

    def _lines(self, lines: list[bytes]) -> list[bytes]:
        """In any order, with whatever does not belong there."""
        lines = [*lines, *(lines if self.repeated else ()), *self.garbage]
        self._random.shuffle(lines)
        return lines

    def _anthropic_lines(self, remote: Remote) -> list[bytes]:
        lines = []
        for line in remote.lines:
            kind, answer = self._kind(remote, line), self._answer(remote, line)
            if answer == "silence":
                continue
            result: dict[str, Any] = {"type": kind}
            if kind == "succeeded":
                text = answer if isinstance(answer, str) else f"You said: {_question(line)}"
                result["message"] = answers.anthropic(line, text)
            elif isinstance(answer, Errs):
                result["error"] = {"type": "error", "error": {"type": answer.type, "message": answer.message}}
            lines.append(msgspec.json.encode({"custom_id": line["custom_id"], "result": result}))
        return self._lines(lines)

    def _openai_lines(self, remote: Remote, which: str) -> list[bytes]:
        lines = []
        for line in remote.lines:
            kind, answer = self._kind(remote, line), self._answer(remote, line)
            if answer == "silence" or (kind == "succeeded") != (which == "output"):
                continue
            said: dict[str, Any] = {"id": "r", "custom_id": line["custom_id"], "response": None, "error": None}
            if kind == "succeeded":
                text = answer if isinstance(answer, str) else f"You said: {_question(line)}"
                said["response"] = {"status_code": 200, "request_id": "q", "body": answers.openai(line, text)}
            elif isinstance(answer, Errs):
                error = {"error": {"type": answer.type, "message": answer.message}}
                said["response"] = {"status_code": answer.status, "request_id": "q", "body": error}
            else:
                code = "batch_expired" if kind == "expired" else "batch_cancelled"
                said["error"] = {"code": code, "message": "This request could not be executed."}
            lines.append(msgspec.json.encode(said))
        return self._lines(lines) if which == "output" else lines


def _asks(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}


def _question(line: dict[str, Any]) -> str:
    """The text of the request's last user message."""
    body = line.get("params") or line["body"]
    content = (body.get("messages") or body.get("input"))[-1]["content"]
    return str(content if isinstance(content, str) else content[-1]["text"])


@asynccontextmanager
async def vendor() -> AsyncIterator[Vendor]:
    """A vendor on a free port."""
    opened = Vendor()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(opened.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**24)
    opened.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield opened
    finally:
        server.close()
        for task in tasks.copy():
            task.cancel()
        broken = [e for e in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(e, Exception)]
    assert not broken, broken
