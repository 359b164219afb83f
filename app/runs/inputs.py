"""What may come in: how long, and of whom it may speak."""

from __future__ import annotations

from typing import Any

from app.domain.agents import Agent
from app.domain.errors import FieldError, RequestError
from app.domain.messages import JsonObject
from app.domain.observers import RunObserver
from app.domain.screening import Screen, as_text, too_long


class Inputs:
    """Judges what callers say, by the policy of the agent that they say it to."""

    def __init__(self, *, screen: Screen, observer: RunObserver) -> None:
        self._screen = screen
        self._observer = observer

    async def check(self, agent: Agent, said: Any, context: JsonObject | None = None, *, path: str = "input") -> None:
        """Raises `RequestError` validation_error, with the paths, for an input (or a context) that is too long, and where the agent is to
        refuse personal data and secrets for one that has some: it names their kinds, never the text.
        """
        texts = [(path, as_text(said))]
        if context:
            texts.append(("context", as_text(context)))
        errors = too_long(agent.screening, texts)
        if errors:
            self._observer.guarded("length", "refused")
            raise RequestError("validation_error", f"The input of agent {agent.name} is too long.", errors)
        if agent.screening.pii == "block":
            await self._block(agent, texts)

    async def _block(self, agent: Agent, texts: list[tuple[str, str]]) -> None:
        errors: list[FieldError] = []
        for path, text in texts:
            kinds = sorted({one.kind for one in await self._screen.find(text)})
            if kinds:
                errors.append(FieldError(path, f"must not contain personal data or secrets; found: {', '.join(kinds)}"))
                self._observer.guarded("secret" if kinds == ["SECRET"] else "pii", "refused")
        if errors:
            detail = f"Agent {agent.name} takes no personal data and no secrets. Take them out and send it again."
            raise RequestError("validation_error", detail, errors)
