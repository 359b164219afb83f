"""The service against its own description: no fault, no status and no shape that is not written there."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import pytest
from schemathesis import GenerationMode

from tests.api import fuzzing
from tests.api.edge import Edge
from tests.api.fuzzing import AnyCase


class Findings:
    """What answers had that the description does not, each kind once."""

    def __init__(self, e: Edge) -> None:
        self._e = e
        self.statuses: Counter[int] = Counter()
        self.wrong: dict[str, str] = {}

    async def check(self, case: AnyCase, known: dict[str, str], number: int) -> None:
        """Send the case, every other one to things that exist; note what is wrong with its answer."""
        fuzzing.fresh(case, number)
        label = case.operation.label
        given = known if number % 2 else {}
        try:
            async with asyncio.timeout(20):
                response = await fuzzing.send(self._e.client, case, given)
            self.statuses[response.status_code] += 1
            fuzzing.validate(case, response, given)
        except TimeoutError:
            self.wrong[f"{label}: no answer"] = case.as_curl_command()
        except BaseExceptionGroup as group:
            for failure in group.exceptions:
                title = f"{label}: {getattr(failure, 'title', failure)} ({response.status_code})"
                self.wrong.setdefault(title, f"{failure}\n{case.as_curl_command()}\n{response.text[:400]}")

    def report(self) -> str:
        return "\n\n".join(f"{title}\n{text}" for title, text in self.wrong.items())


async def test_every_boundary_of_every_operation(edge: Any) -> None:
    async with edge(fuzzing.provider(), *fuzzing.AGENTS) as e:
        known, findings = await fuzzing.furnish(e), Findings(e)
        for operation in fuzzing.OPERATIONS:
            for number, case in enumerate(fuzzing.covering(operation)):
                await findings.check(case, known, number)
        assert not findings.wrong, findings.report()
        assert findings.statuses.total() > 1000
        assert {200, 202, 204, 400, 404, 405, 415, 422} <= findings.statuses.keys()
        assert {status for status in findings.statuses if status >= 500} <= {504}


@pytest.mark.long
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
async def test_requests_by_chance(edge: Any, mode: GenerationMode) -> None:
    await by_chance(edge, mode, 4)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
async def test_many_requests_by_chance(edge: Any, mode: GenerationMode) -> None:
    """The same ones each time; others where somebody says how many."""
    await by_chance(edge, mode, int(os.environ.get("FUZZ_EXAMPLES", "40")), random="FUZZ_EXAMPLES" in os.environ)


async def by_chance(edge: Any, mode: GenerationMode, count: int, *, random: bool = False) -> None:
    async with edge(fuzzing.provider(), *fuzzing.AGENTS) as e:
        known, findings = await fuzzing.furnish(e), Findings(e)
        for operation in fuzzing.OPERATIONS:
            for number, case in enumerate(fuzzing.generated(operation, mode, count, random=random)):
                await findings.check(case, known, number)
        assert not findings.wrong, findings.report()
        assert {status for status in findings.statuses if status >= 500} <= {504}
