"""What providers refuse in a history: a tool call without its result right after it, a result without its call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.e2e.wires import ApiName

Messages = Sequence[dict[str, Any]]


def objections(api: ApiName, messages: Messages) -> list[str]:
    """What that API would say of it; nothing: it takes the history."""
    return {"chat": _chat, "responses": _responses, "anthropic": _anthropic}[api](messages)


def _chat(messages: Messages) -> list[str]:
    """Each `tool_calls` is followed at once by one `tool` message per call, and by no other."""
    wrong: list[str] = []
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                wrong.append(f"a result without a call: {message['tool_call_id']}")
            open_calls.discard(message["tool_call_id"])
            continue
        wrong += [f"a call without a result: {call}" for call in sorted(open_calls)]
        open_calls = {call["id"] for call in message.get("tool_calls") or ()}
    return wrong + [f"a call without a result: {call}" for call in sorted(open_calls)]


def _responses(items: Messages) -> list[str]:
    """Each `function_call` has one output after it."""
    calls: Counter[str] = Counter()
    wrong: list[str] = []
    for item in items:
        if item.get("type") == "function_call":
            if item["call_id"] in calls:
                wrong.append(f"a call twice: {item['call_id']}")
            calls[item["call_id"]] = 1
        elif item.get("type") == "function_call_output":
            if calls[item["call_id"]] != 1:
                wrong.append(f"a result without a call: {item['call_id']}")
            calls[item["call_id"]] = 0
    return wrong + [f"a call without a result: {call}" for call, count in calls.items() if count > 0]


def _anthropic(messages: Messages) -> list[str]:
    """The message after one with `tool_use` begins with a `tool_result` for each, and no other has any; roles take turns."""
    wrong: list[str] = []
    wanted: set[str] = set()
    last = ""
    for message in messages:
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        wrong += [f"a result without a call: {id}" for id in results if id not in wanted]
        wrong += [f"a call without a result: {id}" for id in sorted(wanted - set(results))]
        if message["role"] == last == "assistant":
            wrong.append("two messages of the assistant in a row")
        wanted = {block["id"] for block in blocks if block["type"] == "tool_use"}
        last = message["role"]
    return wrong + [f"a call without a result: {id}" for id in sorted(wanted)]


def stored(messages: Messages) -> list[str]:
    """The same of a session's messages as the service shows them."""
    return _chat(
        [
            {
                "role": message["role"],
                "tool_calls": message.get("tool_calls"),
                "tool_call_id": message.get("call_id"),
            }
            for message in messages
        ]
    )
