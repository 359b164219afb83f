"""The services that are attacked are those of the tests of runs."""

from __future__ import annotations

from tests.runs.conftest import start_process as start_process
