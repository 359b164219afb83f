"""`steadyhand cache …`: drop the cached answers of a running service, or fill its cache."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx2
import msgspec

from app.cli.banner import url_meant, url_of
from app.cli.commands import DONE, FAILED, USAGE
from app.cli.credentials import headers_of
from app.domain.errors import SteadyhandError
from app.domain.messages import JsonObject
from app.workspace.load import load_workspace

PATIENCE = 300.0
"""Seconds that an answer may take."""
Outcome = Literal["hit", "miss", "failed"]


class _Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the file: who is asked (nobody: the default agent), and what: `input`, or `message`, which is text."""

    agent: str | None = None
    input: Any = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    context: JsonObject | None = None


class _Metadata(msgspec.Struct, frozen=True):
    cached: bool


class _Answer(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _Dropped(msgspec.Struct, frozen=True):
    dropped: int


class _Problem(msgspec.Struct, frozen=True):
    detail: str


async def run(options: argparse.Namespace) -> int:
    """0: done; 1: the service refused, or a question got no answer; 2: nothing was chosen."""
    return await (_invalidate(options) if options.action == "invalidate" else _warm(options))


async def _invalidate(options: argparse.Namespace) -> int:
    chosen = {name: value for name in ("agent", "prompt", "tag") if (value := getattr(options, name)) is not None}
    if bool(chosen) == options.all:
        print("steadyhand cache invalidate: give --agent, --prompt or --tag, or else --all", file=sys.stderr)
        return USAGE
    async with _service(options) as http:
        response = await _sent(http, http.build_request("DELETE", "/v1/cache", params=chosen))
        found = _read(response, _Dropped)
    print(msgspec.json.encode(found).decode() if options.json else f"dropped {found.dropped} cached answers")
    return DONE


async def _warm(options: argparse.Namespace) -> int:
    questions = list(_questions(options.file))
    waiting = iter(questions)
    outcomes: Counter[Outcome] = Counter()
    async with _service(options) as http:

        async def ask() -> None:
            for number, question in waiting:
                try:
                    answer = _read(await _sent(http, _request(http, question)), _Answer)
                    outcomes["hit" if answer.metadata.cached else "miss"] += 1
                except SteadyhandError as error:
                    outcomes["failed"] += 1
                    print(f"line {number}: {error}", file=sys.stderr)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.concurrency, len(questions))):
                group.create_task(ask())
    hit, miss, failed = outcomes["hit"], outcomes["miss"], outcomes["failed"]
    if options.json:
        print(msgspec.json.encode({"hit": hit, "miss": miss, "failed": failed}).decode())
    else:
        print(f"{hit} answers were cached already, {miss} were asked for, {failed} failed")
    return FAILED if failed else DONE


def _questions(name: str) -> Iterator[tuple[int, _Question]]:
    """The lines' numbers and questions. Raises SteadyhandError for a file that cannot be read, or holds something else."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise SteadyhandError(f"{name}: {error.strerror or error}") from error
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            question = msgspec.json.decode(line, type=_Question)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SteadyhandError(f"{name}:{number}: {error}") from error
        if (question.input is msgspec.UNSET) == (question.message is msgspec.UNSET):
            raise SteadyhandError(f"{name}:{number}: needs either `input` or `message`")
        yield number, question


def _request(http: httpx2.AsyncClient, question: _Question) -> httpx2.Request:
    body: JsonObject = {} if question.context is None else {"context": question.context}
    asked = question.message if question.input is msgspec.UNSET else question.input
    if isinstance(asked, str):
        more = {} if question.agent is None else {"agent": question.agent}
        return http.build_request("POST", "/chat", json=body | more | {"message": asked})
    if question.agent is None:
        raise SteadyhandError("an `input` that is no text needs an `agent`")
    return http.build_request("POST", f"/agents/{quote(question.agent, safe='')}", json=body | {"input": asked})


@asynccontextmanager
async def _service(options: argparse.Namespace) -> AsyncIterator[httpx2.AsyncClient]:
    url = options.url
    if url is None:
        server = load_workspace(options.workspace, os.environ).settings.server
        url = url_of("127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host, server.port)  # noqa: S104
    timeout = httpx2.Timeout(PATIENCE, connect=10.0)
    try:
        async with httpx2.AsyncClient(
            base_url=url_meant(url), headers=headers_of(options, os.environ), timeout=timeout
        ) as http:
            yield http
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise SteadyhandError(f"--url {url}: {error}") from error


async def _sent(http: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    try:
        return await http.send(request)
    except httpx2.UnsupportedProtocol:
        raise
    except httpx2.TransportError as error:
        raise SteadyhandError(f"cannot reach {http.base_url}: {error or type(error).__name__}") from error


def _read(response: httpx2.Response, kind: type[Any]) -> Any:
    """The answer; SteadyhandError with the service's own words where it is none."""
    if response.status_code == 202:
        raise SteadyhandError("the run waits for a person: there is no answer that could be cached")
    wanted = kind if response.status_code == 200 else _Problem
    try:
        found = msgspec.json.decode(response.content, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SteadyhandError(f"HTTP {response.status_code} without a reason; is it a Steadyhand service?") from None
    if isinstance(found, _Problem):
        raise SteadyhandError(found.detail)
    return found
