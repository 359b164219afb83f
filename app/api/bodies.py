"""What comes into the HTTP edge. Field docs are the API's documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.domain.messages import JsonObject
from app.domain.runs import OnBusy

MessageText = Annotated[str, Meta(min_length=1, description="What the user says.", examples=["What is 12 * 7?"])]
SessionId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9._:-]{1,128}$",
        description="The conversation to go on with; one that does not exist is created. None: a new one.",
        examples=["support-4711"],
    ),
]
NewSessionId = Annotated[
    str, Meta(pattern="^[A-Za-z0-9._:-]{1,128}$", description="The id of the new session. None: one is made up.")
]
UserId = Annotated[str, Meta(min_length=1, max_length=256, description="On whose behalf. Rows belong to this user.")]
Seconds = Annotated[float, Meta(gt=0, le=86_400, description="Seconds until the answer must be there.", examples=[30])]
Context = Annotated[
    JsonObject, Meta(description="Facts that the prompt uses: its variables, and whatever else the model should know.")
]
Tags = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]],
    Meta(
        max_length=64,
        description="Labels of the run, for finding and counting it: 64 at most, with names of 64 characters and values of 256.",
    ),
]
IncludeSteps = Annotated[bool, Meta(description="Also return every intermediate step, in `metadata.steps`.")]
Input = Annotated[Any, Meta(description="Any JSON. A string is the user's message, anything else is given as JSON.")]
AgentName = Annotated[str, Meta(description="Which agent answers. None: the default one.")]
Reason = Annotated[str, Meta(max_length=1000, description="Why; it is recorded.")]
Busy = Annotated[
    OnBusy,
    Meta(
        description="What becomes of the run where its session has a live one: it waits for its turn, it is refused "
        "(409 `session_busy`), or the live one is cancelled for it."
    ),
]
StopAfter = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="Wait after the next step of that kind: `model`, `tool`, or the name of one of the agent's tools.",
        examples=["tool"],
    ),
]
Background = Annotated[bool, Meta(description="Answer at once, with 202.")]
CallbackUrl = Annotated[
    str,
    Meta(
        pattern="^https?://",
        max_length=2048,
        description="Where the outcome is posted, signed, once the run has ended.",
        examples=["https://example.com/hooks/runs"],
    ),
]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body: an unknown field is an error."""


class RunAgentRequest(_Body, frozen=True, kw_only=True):
    """Run an agent by name."""

    input: Input
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    include_steps: IncludeSteps = False


class ChatRequest(_Body, frozen=True, kw_only=True):
    """One turn of a conversation."""

    message: MessageText
    agent: AgentName | None = None
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    include_steps: IncludeSteps = False


class TaskRequest(_Body, frozen=True, kw_only=True):
    """One turn of a conversation that nobody waits for."""

    message: MessageText
    agent: AgentName | None = None
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    callback_url: CallbackUrl | None = None


class AsyncChatRequest(_Body, frozen=True, kw_only=True):
    """One turn (`message` and what belongs to it), or several (`items`), which may share a `callback_url`."""

    message: MessageText | msgspec.UnsetType = msgspec.UNSET
    agent: AgentName | None = None
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    callback_url: CallbackUrl | None = None
    items: Annotated[list[TaskRequest], Meta(min_length=1, max_length=100)] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if (self.message is msgspec.UNSET) == (self.items is msgspec.UNSET):
            raise ValueError("must have either `message` or `items`")
        alone = (self.agent, self.session_id, self.user_id, self.context, self.timeout)
        if self.items is not msgspec.UNSET and (self.tags or any(given is not None for given in alone)):
            raise ValueError("what belongs to a turn must stand in its item, beside `items` only `callback_url`")

    def turns(self) -> list[TaskRequest]:
        """Every turn, each with its callback."""
        if self.items is not msgspec.UNSET:
            return [
                msgspec.structs.replace(item, callback_url=item.callback_url or self.callback_url)
                for item in self.items
            ]
        assert self.message is not msgspec.UNSET
        fields = {name: getattr(self, name) for name in TaskRequest.__struct_fields__}
        return [TaskRequest(**fields)]


class QuestionRequest(_Body, frozen=True, kw_only=True):
    """A question to the default agent."""

    question: MessageText
    session_id: SessionId | None = None
    timeout: Seconds = 30.0


class ResetRequest(_Body, frozen=True, kw_only=True):
    """The session to begin anew."""

    session_id: SessionId


class RunRequest(_Body, frozen=True, kw_only=True):
    """A run. With `background` nobody waits for it; `not_before` and `priority` say when its turn is."""

    agent: Annotated[str, Meta(description="Which agent runs.", examples=["assistant"])]
    input: Input
    session_id: SessionId | None = None
    user_id: UserId | None = None
    context: Context | None = None
    timeout: Seconds | None = None
    tags: Tags = {}
    background: Background = False
    on_busy: Busy = "enqueue"
    stop_after: StopAfter | None = None
    not_before: Annotated[datetime, Meta(tz=True, description="Not before that time (RFC 3339).")] | None = None
    priority: Annotated[int, Meta(ge=-10, le=10, description="A higher one goes first where runs queue.")] = 0
    callback_url: CallbackUrl | None = None


class CancelRequest(_Body, frozen=True, kw_only=True):
    """Why a run is to stop."""

    reason: Reason | None = None


class ResumeRequest(_Body, frozen=True, kw_only=True):
    """How a run is to go on."""

    stop_after: StopAfter | None = None
    background: Background = False


class SteerRequest(_Body, frozen=True, kw_only=True):
    """A message for a run on its way; its agent reads it before the next step."""

    content: MessageText


class DecisionRequest(_Body, frozen=True, kw_only=True):
    """A person's word on a call. `arguments`: the call runs with these instead, which is recorded as an edit."""

    decision: Literal["approve", "deny"]
    arguments: Annotated[JsonObject, Meta(description="What the call runs with instead of its own.")] | None = None
    comment: Annotated[str, Meta(max_length=2000, description="What the person says about it.")] | None = None


class StateRequest(_Body, frozen=True, kw_only=True):
    """A session's new state. With a `version` (or an `If-Match`) only if that is still the current one."""

    state: JsonObject
    version: Annotated[int, Meta(ge=0, le=2**31 - 1, description="The version that this one replaces.")] | None = None


class ForkRequest(_Body, frozen=True, kw_only=True):
    """A new session that begins with what another one has, to its end or up to and with one of its runs."""

    session_id: NewSessionId | None = None
    after_run: Annotated[str, Meta(description="The last run to take over. None: all of them.")] | None = None
    user_id: UserId | None = None
