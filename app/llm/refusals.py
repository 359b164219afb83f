"""Parameters that a model does not take: found out by its refusal once, left out from then on, and said so each time.

Only what a request can do without is ever left out. Any other refusal of a request stays its caller's mistake.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from app.domain.errors import ProviderError
from app.domain.models import ModelRequest
from app.llm.taxonomy import REFUSAL_CODES, REFUSAL_STATUSES, REFUSAL_WORDS

log = logging.getLogger(__name__)


class Refusals:
    """What one model of one provider has refused so far in this process.

    `optional` are the names of parameters that a request can do without, as the API spells them, each with the field of the
    request that it comes from; an empty one: it is always sent.
    """

    def __init__(self, *, provider: str, model: str, optional: Mapping[str, str]) -> None:
        self._target = f"{provider}/{model}"
        self._optional = dict(optional)
        self._mentions = {name: re.compile(rf"(?<![\w.])(?:[a-z_]+\.)?{name}\b") for name in optional}
        self._refused: set[tuple[str, object]] = set()

    @property
    def parameters(self) -> list[str]:
        """The names of those that are not sent any more, or (`name=value`) not with that value."""
        return sorted(name if value is None else f"{name}={value}" for name, value in self._refused)

    def of(self, request: ModelRequest) -> frozenset[str]:
        """The parameters of that request that must be left out."""
        if not self._refused:
            return frozenset()
        return frozenset(
            name
            for name, value in self._refused
            if self._has(request, name) and value in (None, self._value(request, name))
        )

    def learn(self, failure: ProviderError, request: ModelRequest) -> bool:
        """Whether that failure refuses a parameter that the request had: the same without it may be asked at once.

        Never twice for one parameter of one request, so whoever repeats a request comes to an end.
        """
        if failure.kind != "bad_request" or failure.status not in REFUSAL_STATUSES:
            return False
        said = str(failure)
        name, scope = self._named(failure, said, request), REFUSAL_CODES.get(failure.code)
        if name is None or (scope is None and REFUSAL_WORDS.search(said) is None):
            return False
        if name in self.of(request):
            return False
        value = self._value(request, name) if scope == "value" else None
        self._refused.add((name, value))
        log.warning(
            "parameter_refused", extra={"target": self._target, "parameter": name, "value": value, "reason": said}
        )
        return True

    def _named(self, failure: ProviderError, said: str, request: ModelRequest) -> str | None:
        """The parameter that it is about: by the provider's own field, else the first that its words mention."""
        if failure.parameter:
            head = re.split(r"[.\[]", failure.parameter)[0]
            return head if self._has(request, head) else None
        found = [
            (mention.start(), name)
            for name, words in self._mentions.items()
            if self._has(request, name) and (mention := words.search(said))
        ]
        return min(found)[1] if found else None

    def _has(self, request: ModelRequest, name: str) -> bool:
        field = self._optional.get(name)
        return field is not None and (not field or getattr(request, field) is not None)

    def _value(self, request: ModelRequest, name: str) -> object:
        field = self._optional[name]
        return getattr(request, field) if field else None
