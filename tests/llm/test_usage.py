"""The normal form of usage, as it comes off each vendor's wire: every token in one part, and the parts sum to the vendor's total."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.messages import Usage, UsageParts
from app.domain.models import Attempt
from app.llm import anthropic_messages, openai_chat, openai_responses
from app.llm.answers import Answer
from app.llm.sse import Frame
from tests.llm.wire import attempt

counts = st.integers(0, 3_000_000)
maybe = st.none() | counts


def read_anthropic(usage: dict[str, Any]) -> Attempt:
    tried = attempt()
    body = {"type": "message", "id": "m", "model": "c", "content": [], "stop_reason": "end_turn", "usage": usage}
    anthropic_messages.Reading(Answer(tried)).body(msgspec.json.encode(body))
    return tried


def read_responses(usage: dict[str, Any], **more: Any) -> Attempt:
    tried = attempt()
    body = {"id": "r", "model": "g", "status": "completed", "output": [], "usage": usage} | more
    openai_responses.Reading(Answer(tried)).body(msgspec.json.encode(body))
    return tried


def read_chat(usage: dict[str, Any], **more: Any) -> Attempt:
    tried = attempt()
    body = {"id": "c", "model": "g", "choices": [{"finish_reason": "stop"}], "usage": usage} | more
    openai_chat.Reading(Answer(tried)).body(msgspec.json.encode(body))
    return tried


def parts(tried: Attempt) -> UsageParts:
    assert tried.usage is not None
    found = tried.usage.parts()
    assert found is not None
    return found


def total(found: UsageParts) -> int:
    return sum(msgspec.structs.astuple(found))


@given(uncached=counts, read=maybe, short=counts, long=counts, visible=counts, thought=maybe)
def test_anthropics_parts_sum_to_its_total(
    uncached: int, read: int | None, short: int, long: int, visible: int, thought: int | None
) -> None:
    found = parts(
        read_anthropic(
            {
                "input_tokens": uncached,  # without the cache, unlike OpenAI's
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": short + long,
                "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
                "output_tokens": visible + (thought or 0),
                "output_tokens_details": {"thinking_tokens": thought},
            }
        )
    )
    assert found == UsageParts(
        uncached_input=uncached,
        cache_read=read or 0,
        cache_write_5m=short,
        cache_write_1h=long,
        output=visible,
        reasoning=thought or 0,
    )
    assert total(found) == uncached + (read or 0) + short + long + visible + (thought or 0)


@given(
    uncached=counts, read=maybe, wrote=maybe, visible=counts, thought=maybe, chat=st.booleans(), beside=st.booleans()
)
def test_openais_parts_sum_to_its_total(
    uncached: int, read: int | None, wrote: int | None, visible: int, thought: int | None, chat: bool, beside: bool
) -> None:
    given_in = uncached + (read or 0) + (wrote or 0)
    given_out = visible + (thought or 0)
    everything = given_in + given_out
    names = ("prompt_tokens", "completion_tokens") if chat else ("input_tokens", "output_tokens")
    usage = {
        names[0]: given_in,
        f"{names[0]}_details": {"cached_tokens": read, "cache_write_tokens": wrote},
        names[1]: visible if chat and beside else given_out,  # some servers count reasoning beside the completion
        f"{names[1]}_details": {"reasoning_tokens": thought},
        "total_tokens": everything,
    }
    found = parts(read_chat(usage) if chat else read_responses(usage))
    assert found == UsageParts(
        uncached_input=uncached,
        cache_read=read or 0,
        cache_write_5m=wrote or 0,
        cache_write_1h=0,
        output=visible,
        reasoning=thought or 0,
    )
    assert total(found) == everything


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_tokens=1),
        Usage(output_tokens=1),
        Usage(input_tokens=9, cached_input_tokens=10, output_tokens=1),
        Usage(input_tokens=9, cached_input_tokens=5, cache_write_tokens=5, output_tokens=1),
        Usage(input_tokens=9, cache_write_tokens=5, cache_write_1h_tokens=6, output_tokens=1),
        Usage(input_tokens=9, output_tokens=1, reasoning_tokens=2),
    ],
)
def test_totals_that_are_missing_or_too_small_have_no_normal_form(usage: Usage) -> None:
    assert usage.parts() is None


def test_a_zero_is_known() -> None:
    found = Usage(input_tokens=0, output_tokens=0).parts()
    assert found is not None
    assert total(found) == 0


def test_clients_see_five_fields_unless_something_lives_an_hour() -> None:
    usage = Usage(input_tokens=9, cache_write_tokens=5, output_tokens=1)
    five = {"input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"}
    assert msgspec.to_builtins(usage).keys() == five
    longer = msgspec.structs.replace(usage, cache_write_1h_tokens=5)
    assert msgspec.to_builtins(longer).keys() == five | {"cache_write_1h_tokens"}
    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage
    assert msgspec.json.decode(msgspec.json.encode(usage + longer + longer), type=Usage).cache_write_1h_tokens == 10


def test_the_service_tier_and_the_speed_are_those_of_the_answer() -> None:
    assert read_chat({"prompt_tokens": 1, "completion_tokens": 1}, service_tier="flex").service_tier == "flex"
    assert read_responses({"input_tokens": 1, "output_tokens": 1}, service_tier="priority").service_tier == "priority"
    tried = read_anthropic({"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "speed": "fast"})
    assert (tried.service_tier, tried.speed) == ("standard", "fast")


def frames(*events: dict[str, Any]) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


def test_counts_are_an_estimate_until_the_last() -> None:
    tried = attempt()
    reading = anthropic_messages.Reading(Answer(tried))
    start, end = frames(
        {
            "type": "message_start",
            "message": {"id": "m", "model": "c", "usage": {"input_tokens": 7, "output_tokens": 1}},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 40}},
    )
    reading.frame(Frame(event="", data=start))
    assert (tried.basis, tried.usage) == ("estimated", Usage(input_tokens=7, output_tokens=1))
    reading.frame(Frame(event="", data=end))
    assert tried.usage == Usage(input_tokens=7, output_tokens=40)
    assert str(tried.basis) == "provider"

    tried = attempt()
    chat = openai_chat.Reading(Answer(tried))
    running, last = frames(  # some servers count in every chunk
        {"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}},
        {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
    )
    chat.frame(Frame(event="", data=running))
    assert str(tried.basis) == "estimated"
    chat.frame(Frame(event="", data=last))
    assert tried.usage == Usage(input_tokens=7, output_tokens=2)
    assert str(tried.basis) == "provider"
