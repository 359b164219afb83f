"""Delivery of finished spans: one line in the log when a collector goes away, one when it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

REMIND = 300.0
"""Seconds between two lines about a collector that stays away."""


class _LastWords(logging.Handler):
    """Keeps the exporters' latest message as the reason to give: they write several for every try at a dead collector."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class Delivery(SpanExporter):
    """An exporter that says little. Called by the SDK's export thread, one batch at a time; `shutdown` from any thread."""

    def __init__(self, *, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._said: float | None = None
        self._closed = False
        self._words = _LastWords()
        exporters = logging.getLogger("opentelemetry.exporter")
        exporters.addHandler(self._words)
        exporters.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the batch, or lose it: it is never kept for later."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  # whatever it is, the batch is lost and the next one is tried
            result = SpanExportResult.FAILURE
            self._words.text = f"{type(error).__name__}: {error}"
        if result is SpanExportResult.SUCCESS:
            if self._said is not None:
                log.info("traces_delivered_again", extra={"spans_lost": self._lost})
            self._lost, self._said = 0, None
            return result
        self._lost += len(spans)
        now = time.monotonic()
        if self._said is None or now - self._said >= REMIND:
            self._said = now
            log.warning("traces_not_delivered", extra={"spans_lost": self._lost, "reason": self._words.text})
        return result

    def shutdown(self) -> None:
        """Stop waiting for the collector. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)
