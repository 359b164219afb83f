"""The last net under the logs: what the settings know to be a secret is in no line, whoever put it there."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

import msgspec

HIDDEN = "***"


class Hiding(logging.Formatter):
    """Another formatter's lines with three asterisks in the place of each secret, also as JSON spells it."""

    def __init__(self, *, formatter: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._formatter = formatter
        spelled = {form for secret in secrets for form in (secret, msgspec.json.encode(secret).decode()[1:-1]) if form}
        self._pattern = re.compile("|".join(re.escape(form) for form in sorted(spelled, key=len, reverse=True)))

    def format(self, record: logging.LogRecord) -> str:
        """The line. Never raises where the other one does not."""
        return self._pattern.sub(HIDDEN, self._formatter.format(record))
