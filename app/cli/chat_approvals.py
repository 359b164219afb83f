"""A person's word on the calls of a run that waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from app.cli.chat_screen import Screen
from app.cli.chat_service import ChatService
from app.domain.approvals import PendingApproval
from app.domain.errors import RequestError
from app.domain.messages import JsonObject

ASKED = "approve, deny [WHY] or edit? "
JSON_ASKED = "arguments as a JSON object, or nothing to think again: "
_APPROVE, _DENY, _EDIT = {"approve", "a", "yes", "y"}, {"deny", "d", "no", "n"}, {"edit", "e"}


class InputEnded(Exception):
    """Nobody is there to decide."""


class Deciding:
    """Asks for a word on one call after another; `line` gives what the person types after that prompt, None at its end."""

    def __init__(self, *, service: ChatService, screen: Screen, line: Callable[[str], Awaitable[str | None]]) -> None:
        self._service = service
        self._screen = screen
        self._line = line

    async def decide(self, approval: PendingApproval) -> None:
        """Somebody has decided on that call: this person, or another one meanwhile. Raises `InputEnded`."""
        self._screen.question(approval)
        while True:
            word, _, rest = (await self._typed(ASKED)).strip().partition(" ")
            word, comment = word.lower(), rest.strip() or None
            try:
                if word in _APPROVE and comment is None:
                    return await self._service.decide(approval.id, "approve", None, None)
                if word in _DENY:
                    return await self._service.decide(approval.id, "deny", None, comment)
                if word in _EDIT and comment is None:
                    arguments = self._arguments(await self._typed(JSON_ASKED))
                    if arguments is not None:
                        return await self._service.decide(approval.id, "approve", arguments, None)
            except RequestError as error:
                if error.code == "approval_resolved":
                    return self._screen.notice(f"it was decided elsewhere: {error}")
                if error.code != "validation_error":
                    raise
                self._screen.error(str(error))

    async def _typed(self, prompt: str) -> str:
        line = await self._line(prompt)
        if line is None:
            raise InputEnded
        return line

    def _arguments(self, text: str) -> JsonObject | None:
        if not text.strip():
            return None
        try:
            data: Any = msgspec.json.decode(text.encode(errors="replace"))
        except (msgspec.DecodeError, RecursionError):
            data = None
        if isinstance(data, dict):
            return data
        self._screen.error("that is no JSON object")
        return None
