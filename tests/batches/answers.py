"""What the vendors' models answer, in each API's shape."""

from __future__ import annotations

from typing import Any

USAGE = {
    "chat": {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}},
    "responses": {"input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 400}},
    "anthropic": {"input_tokens": 600, "cache_read_input_tokens": 400, "output_tokens": 100, "service_tier": "batch"},
}
"""1,000 tokens read, 400 of them from the cache, and 100 written."""


def openai(line: dict[str, Any], text: str) -> dict[str, Any]:
    model = line["body"]["model"]
    if line["url"].endswith("/responses"):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}]
        return {
            "id": "resp_1",
            "model": model,
            "status": "completed",
            "output": output,
            "usage": USAGE["responses"],
            "service_tier": "default",
        }
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": model, "choices": [choice], "usage": USAGE["chat"]}


def anthropic(line: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": line["params"]["model"],
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": USAGE["anthropic"],
    }  # fmt: skip
