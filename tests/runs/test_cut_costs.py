"""The upstream dies after every frame of every API, and in the middle of it: each request has its row, charged what is known to have come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.messages import Api
from app.domain.models import ModelChunk, ModelRequest, Recorder, TextDelta
from app.domain.prices import Price, Rates
from app.domain.principals import ANONYMOUS
from app.domain.tokens import prose
from app.domain.usage import Caps
from app.llm.prices import PriceBook
from app.llm.router import Route
from app.runs.service import StartRun
from tests.llm.targets import router_of
from tests.llm.test_midstream import ENDS, ERROR, NEXT, deaths
from tests.llm.test_streams import stream
from tests.llm.wire import API_NAMES, Pieces, Script, Served, cut, provider
from tests.runs.conftest import Harness

PRICE = Price(
    rates=Rates(
        input=Decimal(4),
        output=Decimal(20),
        cache_read=Decimal("0.2"),
        cache_write=Decimal(5),
        cache_write_1h=Decimal(8),
    )
)
CAPS = Caps(tenant=Decimal(1_000_000), levels=(Decimal(1),))


class Dying:
    """A route whose first target dies as often as it is asked, and whose second answers. `shown`: the text of each attempt."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.route: Route
        self.shown: list[str] = []

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        async for chunk in router_of(self.route, part=0.0).stream(request, recorder):
            if isinstance(chunk, TextDelta):
                self.shown += [""] * (len(recorder.attempts) - len(self.shown))
                self.shown[-1] += chunk.text
            yield chunk


@pytest.mark.parametrize("end", ["cut", "early", "error"])
@pytest.mark.parametrize("api", API_NAMES)
async def test_each_request_has_its_row_and_its_price(start_process: Any, api: Api, end: str) -> None:
    second = stream(NEXT[api]).replace(b" one", b" two")
    book = PriceBook(own={"openai/model-1": PRICE, "anthropic/model-1": PRICE, "other/model-2": PRICE})
    dying, bases = Dying(PRICE), set()
    async with start_process(dying, caps=CAPS) as p:
        for body, whole in deaths(api):
            dead = body + ERROR if end == "error" and (not body or body.endswith(b"\n\n")) else body
            first = Script(*(Served(Pieces(cut(dead, 64), ENDS.get(end))) for _ in range(3)))
            other = Script(Served(second))
            async with (
                provider(api, first, prices=book) as one,
                provider(NEXT[api], other, "https://b.test/v1", prices=book) as two,
            ):
                two.name = "other"
                dying.route, dying.shown = Route(targets=(one.target("model-1"), two.target("model-2"))), []
                started = await p.service.start(ANONYMOUS, StartRun(input="go", stop_after="model"))
                assert isinstance(await p.service.result(started), ev.RunWaiting)
            found = await costs(p, started.run_id)
            assert len(found) == len(first.requests) + len(other.requests)
            for n, row in enumerate(found):
                bases.add(row["basis"])
                text = dying.shown[n] if n < len(dying.shown) else ""
                if row["basis"] == "estimated":
                    assert row["input_tokens"] > 0
                    assert row["output_tokens"] >= prose(text), body
                    assert row["cost_usd"] > 0
                else:  # its last count had come, or it refused
                    assert row["output_tokens"] == 42 or row["cost_usd"] == 0, body
            assert found[-1]["basis"] == "provider"
            assert not whole or len(found) == 1
    assert bases == {"provider", "estimated"}


async def costs(p: Harness, run_id: str) -> list[dict[str, Any]]:
    """The rows of a run; nothing is open, and they are what its journal says."""
    rows = await p.database.fetch("SELECT * FROM usage WHERE run_id = $1 ORDER BY started_at, id", run_id)
    assert all(row["settled_at"] is not None for row in rows)
    told = [e for stored in await p.events(run_id) if isinstance(e := ev.decode(stored), ev.UsageRecorded)]
    assert [(row["basis"], row["outcome"], row["cost_usd"]) for row in rows] == [
        (e.basis, e.outcome, None if e.cost_usd is None else Decimal(repr(e.cost_usd))) for e in told
    ]
    assert {row["reserved"] for row in await p.database.fetch("SELECT reserved FROM budgets")} <= {0}
    return [dict(row) for row in rows]
