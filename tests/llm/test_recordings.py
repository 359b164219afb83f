"""What vendors really sent is read as the vendors' own SDKs read it, however it is cut."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.domain.errors import ProviderError
from app.domain.messages import Api, Usage
from app.domain.models import Completed
from tests.llm import recordings
from tests.llm.wire import API_NAMES, Pieces, Script, Served, ask, attempt, cut, provider

LOST_BY_THE_SDK = {"pai.test_openai-test_openai_moderation_stream#0"}
"""Turns whose golden usage is null although it was sent: a chunk without usage came after it, and the tokens are paid for."""

REASONING_BESIDE = {"vai.xai-text#0": 322, "vai.xai-tool-call#0": 281, "vai.xai-tool-call.stream#0": 253}
"""Turns whose golden output leaves out the reasoning, which that server counts beside `completion_tokens`: what its total says."""

pytestmark = pytest.mark.skipif(recordings.folder() is None, reason="the recordings are not there")

STOPS: dict[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "refusal",
    "stop": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "function_call": "stop",  # the legacy form; nobody here asks for it
    "completed": "stop",
    "complete": "stop",
    "queued": "pause",
    "incomplete": "length",
}


@pytest.mark.parametrize("size", [0, 1, 7, 64], ids=lambda size: f"cut{size}")
@pytest.mark.parametrize("api", API_NAMES)
async def test_streams(api: Api, size: int) -> None:
    turns = [turn for turn in recordings.turns(api) if turn[1]["stream"]]
    assert len(turns) >= 19
    await _check(api, turns, size)


@pytest.mark.parametrize("api", API_NAMES)
async def test_json_bodies_and_errors(api: Api) -> None:
    turns = [turn for turn in recordings.turns(api) if not turn[1]["stream"]]
    assert any(turn["status"] >= 400 for _, turn, _ in turns)
    await _check(api, turns, 0)


@pytest.mark.parametrize("api", API_NAMES)
async def test_an_early_end_is_never_an_answer(api: Api) -> None:
    script = Script()
    async with provider(api, script) as opened:
        for name, turn, want in recordings.turns(api):
            if not turn["stream"] or "error" in want:
                continue
            frames = turn["body"].strip("\n").split("\n\n")
            for end in {0, 1, len(frames) // 2, len(frames) - 2, len(frames) - 1}:
                body = "".join(frame + "\n\n" for frame in frames[:end]).encode()
                script.answers.append(Served(body))
                with pytest.raises(ProviderError) as failure:
                    await ask(opened)
                assert failure.value.kind == "stream_broken", f"{name} cut after {end} frames"


async def _check(api: Api, turns: list[tuple[str, dict[str, Any], dict[str, Any]]], size: int) -> None:
    script = Script()
    async with provider(api, script) as opened:
        for name, turn, want in turns:
            script.answers.append(Served(Pieces(cut(turn["body"].encode(), size)), turn["status"], turn["headers"]))
            tried = attempt()
            if "error" in want:
                with pytest.raises(ProviderError) as failure:
                    await ask(opened, tried=tried)
                assert failure.value.status == want.get("http", 200), name
                continue
            got = await ask(opened, tried=tried)
            assert _reading(got) == _golden(want), name
            if name in LOST_BY_THE_SDK:
                want = want | {"usage": {"in": 13, "out": 11, "cached": 0}}
            _check_usage(name, got.usage, want["usage"])
            assert (tried.usage, tried.finish) == (got.usage, got.stop), name


def _reading(got: Completed) -> dict[str, Any]:
    calls = [{"id": c.id, "name": c.name, "args": msgspec.json.decode(c.arguments)} for c in got.tool_calls]
    return {"text": got.content, "calls": calls, "stop": got.stop}


def _golden(want: dict[str, Any]) -> dict[str, Any]:
    stop = STOPS[want["stop"]]
    if stop == "stop" and want["tool_calls"]:
        stop = "tool_calls"
    return {"text": want["text"], "calls": want["tool_calls"], "stop": stop}


def _check_usage(name: str, got: Usage | None, want: dict[str, int | None] | None) -> None:
    if want is None:
        assert got is None, name
        return
    assert got is not None, name
    if "cache_read" in want:
        cached, wrote = got.cached_input_tokens or 0, got.cache_write_tokens or 0
        assert got.input_tokens is not None
        assert (got.input_tokens - cached - wrote, cached, wrote) == (
            want["in"],
            want["cache_read"] or 0,
            want["cache_write"] or 0,
        ), name
    else:
        assert (got.input_tokens, got.cached_input_tokens or 0) == (want["in"], want["cached"] or 0), name
    assert got.output_tokens == REASONING_BESIDE.get(name, want["out"]), name
    if "reasoning" in want:
        assert (got.reasoning_tokens or 0) == (want["reasoning"] or 0), name
