"""All that the outside may do with cached answers: drop them."""

from __future__ import annotations

from app.domain.cache import Selection
from app.domain.errors import RequestError
from app.domain.hints import DropHints
from app.domain.principals import Principal
from app.runs.answers import Answers


class CacheService:
    """Drops answers of a tenant, wherever they are kept. Safe for concurrent use."""

    def __init__(self, *, answers: Answers, hints: DropHints) -> None:
        self._answers = answers
        self._hints = hints

    async def drop(self, principal: Principal, selection: Selection) -> int:
        """No process gives those answers any more, as soon as it has heard of it; what is being answered now is not kept.

        How many there were where they are shared, or else in this process. Raises `RequestError` not_ready where those that are
        shared could not be reached: they may come back with the server.
        """
        labels = selection.labels(principal.tenant)
        count, all_of_them = await self._answers.drop(labels)
        self._hints.dropped(labels)
        if not all_of_them:
            raise RequestError(
                "not_ready",
                "Redis, which keeps answers for all processes, does not answer: only what the processes remember was dropped. "
                "Send the request again.",
            )
        return count
