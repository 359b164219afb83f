"""What the API's description says of many routes alike: their problems, their streams, that a run may wait."""

from __future__ import annotations

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example

from app.api.schemas import Waiting
from app.api.streams import MEDIA_TYPE

STREAM_EXAMPLE = (
    "retry: 1000\n\n"
    'id: 1\nevent: start\ndata: {"run_id":"run_1","session_id":"ses_1","agent":"assistant"}\n\n'
    'id: 5\nevent: tool\ndata: {"name":"calculator","call_id":"call_1","status":"started"}\n\n'
    'id: 6\nevent: tool\ndata: {"name":"calculator","call_id":"call_1","status":"ok","result":"84"}\n\n'
    'id: 6.12\nevent: chunk\ndata: {"text":"12 * 7 = 84.","message_id":"msg_1"}\n\n'
    'id: 9\nevent: done\ndata: {"result":"12 * 7 = 84.","status":"succeeded","metadata":{"iterations":2}}\n\n'
)
BODY_ERRORS = (
    "malformed_json", "invalid_encoding", "not_found", "request_timeout", "body_too_large", "unsupported_media_type", "validation_error",
    "idempotency_key_reused", "internal", "not_ready",
)  # fmt: skip
RUN_ERRORS = (
    *BODY_ERRORS, "disabled", "run_cancelled", "rate_limited", "queue_full", "budget_exhausted", "provider_error", "invalid_output", "providers_unavailable", "timeout",
)  # fmt: skip
STREAM_ERRORS = (*BODY_ERRORS, "disabled", "rate_limited", "queue_full", "budget_exhausted")


def event_stream(description: str, example: str = STREAM_EXAMPLE) -> dict[int, ResponseSpec]:
    """The description of a response that streams."""
    shown = Example(id="stream", summary="A turn with a tool", value=example)
    spec = ResponseSpec(str, generate_examples=False, description=description, media_type=MEDIA_TYPE, examples=[shown])
    return {200: spec}


WAITING = {
    202: ResponseSpec(
        Waiting, generate_examples=False, description="The run waits: for a person's word, or for a resume"
    )
}
