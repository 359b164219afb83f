"""`Idempotency-Key`: what a repeated request names, and routes without a run of their own that answer it once.

A route that makes a run gives its key to the run service, which keeps it with the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request, Response

from app.api.aside import INLINE, Aside
from app.api.decoding import decode_body
from app.domain.errors import DatabaseUnavailable, FieldError, RequestError
from app.domain.idempotency import IdempotencyKey, KeptAnswer, KeyStore
from app.domain.principals import Principal

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
"""The header that says that an answer is that of an earlier request."""
LOCK = 5.0
"""Seconds that a request may take until another one with its key begins it again."""
PATIENCE = 60.0
"""Seconds that a request waits for another one with its key."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
LONGEST_PATH = 300
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Action = Callable[[], Awaitable[Any]]
"""Does what was asked: what it returns is the answer's body, None for no body, or the whole answer as a `KeptAnswer`."""


async def key_of(request: Request[Any, Any, Any]) -> IdempotencyKey | None:
    """The request's key, None where it has none. Raises `RequestError` validation_error for one that is none.

    Bodies that mean the same JSON are the same request, however they are written; large ones only if they have the same bytes.
    """
    given = request.headers.getall(HEADER.lower(), [])
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        why = "must be one key of 1 to 255 visible ASCII characters"
        raise RequestError("validation_error", f"`{HEADER}` {why}.", [FieldError(HEADER, why)])
    # The base class's: a body that a route does not need may be missing.
    body = await Request.body(request)
    aside: Aside = request.app.state.aside
    fingerprint = await aside.run(len(body), lambda: _fingerprint(body, request.scope["query_string"]))
    path = str(request.scope["path"])
    if len(path) > LONGEST_PATH:  # no such thing exists, and an index row has its limits
        path = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    return IdempotencyKey(method=request.method, path=path, key=given[0], fingerprint=fingerprint)


def _fingerprint(body: bytes, query: bytes) -> str:
    digest = hashlib.sha256(body if len(body) > INLINE else _canonical(body))
    if query:
        digest.update(b"\n?" + query)
    return digest.hexdigest()


def _canonical(body: bytes) -> bytes:
    try:
        return msgspec.json.encode(decode_body(body, Any), order="deterministic")
    except RequestError:  # refused later, or of no concern to its route
        return body


def derived_id(prefix: str, principal: Principal, key: IdempotencyKey) -> str:
    """An id for what a request makes, the same for each repetition: whoever makes it again finds it there."""
    named = msgspec.json.encode((principal.tenant, principal.user, key.method, key.path, key.key, key.fingerprint))
    return f"{prefix}_{hashlib.sha256(named).hexdigest()[:28]}"


class Idempotent:
    """Answers requests once for each key. Times in seconds."""

    def __init__(self, *, store: KeyStore, lock: float = LOCK, patience: float = PATIENCE) -> None:
        self._store = store
        self._lock = lock
        self._patience = patience

    async def answer(
        self, principal: Principal, key: IdempotencyKey | None, action: Action, *, status: int = 200
    ) -> Response[Any]:
        """The action's answer, or that of an earlier request with the key, which then has `Idempotency-Replayed: true`.

        While another request with the key is under way this one waits for its answer. An action that raises is forgotten, as if it
        had never been asked for; one that is cancelled half way, or whose process dies, is done again after `lock`. So an action
        can happen twice, and then makes nothing twice if its ids are `derived_id`s.
        Raises what the action does, and `RequestError` idempotency_key_reused or not_ready (the other one does not end).
        """
        if key is None:
            return _response(_answer(await action(), status))
        earlier = await self._begin(principal, key)
        if earlier is not None:
            return _response(earlier, replayed=True)
        try:
            answer = _answer(await action(), status)
        except Exception:
            await self._forget(principal, key)
            raise
        try:
            await self._store.keep(principal, key, answer)
        except DatabaseUnavailable as error:  # what was asked for is done all the same
            log.warning("an answer could not be kept for its idempotency key", extra={"reason": str(error)})
        return _response(answer)

    async def _begin(self, principal: Principal, key: IdempotencyKey) -> KeptAnswer | None:
        """The answer to give; None: the request is ours to do."""
        until = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            taken = await self._store.take(principal, key, self._lock)
            if taken is True:
                return None
            if isinstance(taken, KeptAnswer):
                return taken
            if time.monotonic() >= until:
                raise RequestError(
                    "not_ready", "A request with this Idempotency-Key is still under way; send it again."
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    async def _forget(self, principal: Principal, key: IdempotencyKey) -> None:
        try:
            await self._store.drop(principal, key)
        except DatabaseUnavailable as error:
            log.warning("an idempotency key could not be dropped; its lock runs out", extra={"reason": str(error)})


def _answer(value: Any, status: int) -> KeptAnswer:
    if isinstance(value, KeptAnswer):
        return value
    return KeptAnswer(status=status, body=None if value is None else msgspec.json.encode(value))


def _response(answer: KeptAnswer, *, replayed: bool = False) -> Response[Any]:
    return Response(
        answer.body,
        status_code=answer.status,
        media_type="application/json",
        headers={REPLAYED: "true"} if replayed else {},
    )
