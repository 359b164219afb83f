"""What attempts cost that were refused, broke off, or were not counted."""

from __future__ import annotations

from contextlib import aclosing
from decimal import Decimal

import msgspec
import pytest

from app.domain.errors import FailureKind, ProviderError
from app.domain.messages import Api, Usage
from app.domain.models import TextDelta
from tests.llm.messages import REQUEST
from tests.llm.pricing import MODELS, OWN, book, each_api, stream, target
from tests.llm.wire import Pieces, Script, Served, ask, attempt, cut, provider


@each_api
@pytest.mark.parametrize("status", [400, 401, 402, 404, 413, 429, 500, 503, 529])
async def test_what_a_provider_refuses_costs_nothing(api: Api, status: int) -> None:
    script = Script(Served(b'{"error": {"type": "x", "message": "no"}}', status, {"content-type": "application/json"}))
    async with provider(api, script, prices=book()) as opened:
        tried = attempt()
        with pytest.raises(ProviderError):
            await ask(opened, model=MODELS[api], tried=tried)
    assert (tried.usage, tried.cost_usd, tried.basis) == (None, Decimal(0), "provider")


@pytest.mark.parametrize(
    ("kind", "begun", "want"),
    [
        ("connect", False, 0),
        ("auth", False, 0),
        ("rate_limited", False, 0),
        ("rate_limited", True, None),
        ("overloaded", False, 0),
        ("overloaded", True, None),
        ("stream_broken", False, None),
        ("idle_timeout", False, None),
    ],
)
async def test_what_nobody_counted(kind: FailureKind, begun: bool, want: int | None) -> None:
    tried = attempt()
    (await target("gpt-6.1-sol")).settle(tried, None, ProviderError(kind, ""), begun=begun)
    assert tried.cost_usd == want
    assert tried.basis == ("estimated" if want is None else "provider")


@each_api
async def test_an_answer_that_breaks_costs_what_was_counted_by_then(api: Api) -> None:
    """Anthropic counts the input at the beginning, OpenAI counts at the end."""
    body = stream(api, MODELS[api])
    script = Script(Served(Pieces([body[: len(body) // 2]], ConnectionError())))
    async with provider(api, script, prices=book()) as opened:
        tried = attempt()
        with pytest.raises(ProviderError):
            await ask(opened, model=MODELS[api], tried=tried)
    if api == "anthropic-messages":
        # 20 x 4 + 100 x 0.2 + 7 x 5 + 1 x 20
        assert (tried.cost_usd, tried.basis) == (Decimal("0.000155"), "estimated")
    else:
        assert (tried.usage, tried.cost_usd, tried.basis) == (None, None, "estimated")


async def test_an_answer_that_nobody_waits_for_is_charged_too() -> None:
    script = Script(Served(Pieces(cut(stream("anthropic-messages", "claude-opus-5-5"), 64))))
    async with provider("anthropic-messages", script, prices=book()) as opened:
        tried = attempt()
        async with aclosing(opened.target("claude-opus-5-5").stream(REQUEST, tried)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextDelta):
                    break
        # begun: 20 x 4 + 100 x 0.2 + 7 x 5 + 1 x 20
    assert (tried.cost_usd, tried.basis) == (Decimal("0.000155"), "estimated")


@each_api
async def test_what_was_not_counted_is_estimated(api: Api) -> None:
    """The input as the ledger has it where the provider had not counted it; of the output what had come."""
    body = stream(api, MODELS[api])
    script = Script(Served(Pieces([body[: len(body) // 2]], ConnectionError())))
    async with provider(api, script, prices=book()) as opened:
        tried = attempt()
        tried.input_tokens = 1000
        with pytest.raises(ProviderError):
            await ask(opened, model=MODELS[api], tried=tried)
    assert tried.basis == "estimated"
    assert tried.usage is not None
    assert tried.usage.input_tokens == (127 if api == "anthropic-messages" else 1000)
    assert (tried.usage.output_tokens or 0) > 0
    assert (tried.cost_usd or 0) > Decimal("0.000155")


async def test_a_whole_answer_without_counts_is_estimated() -> None:
    body = {"id": "c", "model": "g", "choices": [{"message": {"content": "x" * 400}, "finish_reason": "stop"}]}
    served = Served(msgspec.json.encode(body), headers={"content-type": "application/json"})
    async with provider("openai-chat", Script(served), prices=book({"openai/g": OWN})) as opened:
        tried = attempt()
        tried.input_tokens = 50
        await ask(opened, model="g", tried=tried)
    assert (tried.basis, tried.usage) == ("estimated", Usage(input_tokens=50, output_tokens=100))
    assert tried.cost_usd == OWN.rates.input * 50 / 1_000_000 + OWN.rates.output * 100 / 1_000_000
