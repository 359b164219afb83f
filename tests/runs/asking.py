"""What people ask of a run, and what they get."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.errors import RequestError
from app.domain.principals import ANONYMOUS, Principal
from app.runs.service import StartRun
from tests.runs.conftest import Harness
from tests.runs.test_durability import end_of, sound
from tests.waiting import until

ANN = Principal(tenant="default", user="ann")
RISKY = ("c1", "risky", '{"n":1}')


async def refused(call: Any) -> str:
    with pytest.raises(RequestError) as error:
        await call
    return error.value.code


async def waits(p: Harness, **more: Any) -> tuple[Any, ev.RunWaiting]:
    started = await p.service.start(ANN, StartRun(input="go", session_id="s", **more))
    waiting = await p.service.result(started)
    assert isinstance(waiting, ev.RunWaiting)
    return started, waiting


async def ends(p: Harness, run_id: str) -> Any:
    await end_of(p, run_id)
    sound(await p.events(run_id))
    return await p.service.run(ANONYMOUS, run_id)


async def time_is_up(p: Any, run_id: str, *, requests: int = 1) -> None:
    """What the run is doing when that many requests were made ends as at its deadline."""
    await until(lambda: len(p.provider.requests) == requests)
    stop = p.worker._running[run_id].stop
    stop.end = time.monotonic() + stop._reserve
    if stop._scope is not None:
        stop._scope.reschedule(asyncio.get_running_loop().time())
