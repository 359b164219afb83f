"""`steadyhand batch`: send a file of items as a batch, wait for it, print the results. It may be stopped and run again at any time."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from app.cli.banner import url_meant
from app.cli.batch_file import BadFile, Piece, pieces
from app.cli.batch_service import BatchClient
from app.cli.commands import DONE, FAILED, USAGE
from app.cli.credentials import headers_of
from app.domain.batches import Batch
from app.domain.errors import SteadyhandError
from app.settings import secrets_of
from app.telemetry.logs import configure_logging
from app.workspace.load import SHIPPED, load_workspace


async def run(options: argparse.Namespace) -> int:
    """0 where every item has an answer, 1 where one has none or the batch could not be sent, 2 for a file that holds no items."""
    configure_logging(level="warning", format="pretty")
    salt = secrets.token_hex(8) if options.new else ""
    try:
        found = pieces(options.file, options.agent, options.window, salt)
    except BadFile as error:
        print(f"steadyhand: {error}", file=sys.stderr)
        return USAGE
    sent: list[Batch] = []
    try:
        async with _service(options) as (client, lost):
            doing = asyncio.create_task(_do(options, client, found, sent))
            try:
                waited: list[asyncio.Future[Any]] = [doing, lost]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if not doing.done():
                    lost.result()
            finally:
                doing.cancel()
                await asyncio.wait([doing])
            return await doing
    except asyncio.CancelledError:
        _tell("\nnot waiting any more. " + _how_to_go_on(options, sent))
        return FAILED


async def _do(options: argparse.Namespace, client: BatchClient, found: list[Piece], sent: list[Batch]) -> int:
    for piece in found:
        sent.append(await client.create(piece))
        _tell(f"{sent[-1].id}: {len(piece.places)} items for {sent[-1].agent} at {sent[-1].provider}/{sent[-1].model}")
    for n, batch in enumerate(sent):
        sent[n] = await client.until_ended(batch, _progress)
    results: dict[int, msgspec.Raw] = {}
    for piece, batch in zip(found, sent, strict=True):
        results |= zip(piece.places, await client.results(batch.id), strict=True)
    ordered = [results[place] for place in sorted(results)]
    _write(options, sent, ordered)
    for piece, batch in zip(found, sent, strict=True):
        cost = "not known" if batch.cost_usd is None else f"{batch.cost_usd:.6f} USD"
        why = f"; {batch.error.code}: {batch.error.detail}" if batch.error else ""
        why += ". The same file means the same batch: --new sends it again" if batch.status == "failed" else ""
        _tell(f"{batch.id}: {batch.status}, {batch.counts.succeeded} of {len(piece.places)} answered, cost {cost}{why}")
    return (
        DONE if all(batch.counts.succeeded == len(p.places) for p, batch in zip(found, sent, strict=True)) else FAILED
    )


def _write(options: argparse.Namespace, sent: list[Batch], results: list[msgspec.Raw]) -> None:
    """JSON lines, or with --json one document."""
    if options.json:
        text = msgspec.json.encode({"batches": sent, "results": results}) + b"\n"
    else:
        text = b"".join(bytes(result) + b"\n" for result in results)
    if options.output is None:
        sys.stdout.write(text.decode())
        sys.stdout.flush()
        return
    try:
        options.output.write_bytes(text)
    except OSError as error:
        raise SteadyhandError(f"{options.output}: {error.strerror}") from error


def _progress(batch: Batch) -> None:
    counts = batch.counts
    done = counts.succeeded + counts.errored + counts.expired + counts.cancelled
    why = f" ({batch.error.detail})" if batch.error else ""
    _tell(f"{batch.id}: {batch.status}, {done} of {done + counts.pending} done{why}")


def _how_to_go_on(options: argparse.Namespace, sent: list[Batch]) -> str:
    if not sent:
        return "Nothing was sent."
    names = ", ".join(batch.id for batch in sent)
    words = ["steadyhand", "batch", str(options.file), *(["--agent", options.agent] if options.agent else [])]
    words += ["--window", f"{options.window:g}"] if options.window is not None else []
    if options.url is not None:
        words += ["--url", options.url]
    elif options.workspace != SHIPPED:
        words += ["--workspace", str(options.workspace)]
    if options.new:
        return f"{names} goes on; its results are at /v1/batches/ID/results."
    alone = "" if options.url is not None else " while a service or this command runs on the same data"
    return f"{names} goes on{alone}; wait for it again with: {shlex.join(words)}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def _service(options: argparse.Namespace) -> AsyncIterator[tuple[BatchClient, asyncio.Future[None]]]:
    """The service at --url, or one of our own for the time of the block; and what fails when it can do nothing more."""
    timeout = httpx2.Timeout(60.0, connect=10.0)
    if options.url is not None:
        url = url_meant(options.url)
        try:
            async with httpx2.AsyncClient(
                base_url=url, headers=headers_of(options, os.environ), timeout=timeout
            ) as http:
                yield BatchClient(http=http, name=url), asyncio.get_running_loop().create_future()
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise SteadyhandError(f"--url {options.url}: {error}") from error
        return
    from app.cli.own import own_services  # imports all of the service

    workspace = load_workspace(options.workspace, os.environ)
    os.environ.update(workspace.settings.dotenv)
    configure_logging(level="warning", format="pretty", secrets=secrets_of(workspace.settings, os.environ))
    async with own_services(workspace) as (services, name, lost):
        transport = httpx2.ASGITransport(app=services.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://steadyhand", timeout=timeout) as http:
            for text in (*workspace.settings.warnings, *workspace.settings.advice):
                _tell(text)
            yield BatchClient(http=http, name=f"this process ({name})"), lost
