"""The quick endpoints: ask an agent, get its answer whole or as a stream."""

from __future__ import annotations

from typing import Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from app.api import sse
from app.api.guards import no_idempotency_key
from app.api.problems import RunFailed, request_id, responses
from app.api.schemas import (
    AgentView,
    AnswerResponse,
    ChatRequest,
    ChatResponse,
    History,
    QuestionRequest,
    ResetRequest,
    RunAgentRequest,
    RunAgentResponse,
    run_status_error,
)
from app.api.sessions import message_view
from app.api.streams import MEDIA_TYPE, Content, OpenStreams
from app.api.targets import Targets
from app.domain.agents import Agent
from app.domain.events import RunFinished
from app.domain.principals import Principal
from app.runs.service import RunService, Started, StartRun
from app.runs.steps import Step

STREAM_EXAMPLE = (
    "retry: 1000\n\n"
    'id: 1\nevent: start\ndata: {"run_id":"run_1","session_id":"ses_1","agent":"assistant"}\n\n'
    'id: 5\nevent: tool\ndata: {"name":"calculator","call_id":"call_1","status":"started"}\n\n'
    'id: 6\nevent: tool\ndata: {"name":"calculator","call_id":"call_1","status":"ok","result":"84"}\n\n'
    'id: 6.12\nevent: chunk\ndata: {"text":"12 * 7 = 84.","message_id":"msg_1"}\n\n'
    'id: 9\nevent: done\ndata: {"result":"12 * 7 = 84.","status":"succeeded","metadata":{"iterations":2}}\n\n'
)
BODY_ERRORS = (
    "malformed_json", "invalid_encoding", "not_found", "body_too_large", "unsupported_media_type", "validation_error",
    "internal", "not_ready",
)  # fmt: skip
RUN_ERRORS = (*BODY_ERRORS, "run_cancelled", "provider_error", "invalid_output", "providers_unavailable", "timeout")
STREAM_ERRORS = (*BODY_ERRORS, "queue_full")


def event_stream(description: str, example: str = STREAM_EXAMPLE) -> dict[int, ResponseSpec]:
    """The description of a response that streams."""
    shown = Example(id="stream", summary="A turn with a tool", value=example)
    spec = ResponseSpec(str, generate_examples=False, description=description, media_type=MEDIA_TYPE, examples=[shown])
    return {200: spec}


@get("/agents", tags=["agents"], summary="List the agents", responses=responses("internal", "not_ready"))
async def list_agents(service: NamedDependency[RunService], targets: NamedDependency[Targets]) -> list[AgentView]:
    """Every agent that can be asked, by name."""
    return [_agent_view(agent, targets) for _, agent in sorted(service.agents.current.items())]


@get(
    "/agents/{name:str}",
    tags=["agents"],
    summary="One agent",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_agent(
    name: FromPath[str], service: NamedDependency[RunService], targets: NamedDependency[Targets]
) -> AgentView:
    """What one agent is and whether it can be asked now."""
    return _agent_view(service.agents.get(name), targets)


def _agent_view(agent: Agent, targets: Targets) -> AgentView:
    return AgentView(
        name=agent.name,
        description=agent.description,
        kind=agent.kind,
        status=targets.status(agent.model),
        version=agent.version,
        tools=[tool.name for tool in agent.tools],
    )


@post(
    "/agents/{name:str}",
    status_code=200,
    tags=["agents"],
    summary="Run an agent",
    guards=[no_idempotency_key],
    responses=responses(*RUN_ERRORS),
)
async def run_agent(
    name: FromPath[str],
    data: JSONBody[RunAgentRequest],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
) -> RunAgentResponse:
    """Runs the agent to its end and answers with the result."""
    started, end, steps = await _run(service, principal, _named(name, data), data.include_steps)
    return RunAgentResponse(
        result=end.output,
        run_id=started.run_id,
        session_id=started.session_id,
        duration_ms=end.duration_ms,
        metadata=sse.metadata(started.agent_version, end, steps),
    )


@post(
    "/agents/{name:str}/stream",
    status_code=200,
    tags=["agents"],
    summary="Run an agent, streamed",
    guards=[no_idempotency_key],
    responses=event_stream("The run as it goes on: start, tool, chunk, reset, then done or error")
    | responses(*STREAM_ERRORS),
)
async def stream_agent(
    name: FromPath[str],
    data: JSONBody[RunAgentRequest],
    request: Request[Any, Any, Any],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    streams: NamedDependency[OpenStreams],
) -> Stream:
    """Runs the agent and streams what happens as server-sent events."""
    return await _stream(request, service, principal, streams, _named(name, data), data.include_steps)


@post(
    "/chat",
    status_code=200,
    tags=["chat"],
    summary="One turn",
    guards=[no_idempotency_key],
    responses=responses(*RUN_ERRORS),
)
async def chat(
    data: JSONBody[ChatRequest], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> ChatResponse:
    """Adds the message to its session and answers it. Turns of one session run one after another."""
    started, end, steps = await _run(service, principal, _chat(data), data.include_steps)
    return ChatResponse(
        response=end.output,
        session_id=started.session_id,
        run_id=started.run_id,
        metadata=sse.metadata(started.agent_version, end, steps),
    )


@post(
    "/chat/stream",
    status_code=200,
    tags=["chat"],
    summary="One turn, streamed",
    guards=[no_idempotency_key],
    responses=event_stream("The turn as it goes on: start, tool, chunk, reset, then done or error")
    | responses(*STREAM_ERRORS),
)
async def stream_chat(
    data: JSONBody[ChatRequest],
    request: Request[Any, Any, Any],
    service: NamedDependency[RunService],
    principal: NamedDependency[Principal],
    streams: NamedDependency[OpenStreams],
) -> Stream:
    """Adds the message to its session and streams the answer as server-sent events."""
    return await _stream(request, service, principal, streams, _chat(data), data.include_steps)


@post(
    "/agent",
    status_code=200,
    tags=["chat"],
    summary="Question and answer",
    guards=[no_idempotency_key],
    responses=responses(*RUN_ERRORS),
)
async def question(
    data: JSONBody[QuestionRequest], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> AnswerResponse:
    """Answers one question with the default agent, within `timeout` seconds."""
    wanted = StartRun(input=data.question, session_id=data.session_id, timeout=data.timeout)
    started, end, _ = await _run(service, principal, wanted, include_steps=False)
    return AnswerResponse(
        answer=end.output,
        iterations=end.iterations,
        duration=round(end.duration_ms / 1000, 6),
        cached=end.cached,
        session_id=started.session_id,
        run_id=started.run_id,
    )


@get(
    "/history/{session_id:str}",
    tags=["chat"],
    summary="A session's messages",
    responses=responses("not_found", "internal", "not_ready"),
)
async def history(
    session_id: FromPath[str], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> History:
    """The messages since the session's last reset, oldest first."""
    return History([message_view(*found) for found in await service.messages(principal, session_id)])


@post(
    "/reset",
    status_code=204,
    tags=["chat"],
    summary="Begin a session anew",
    guards=[no_idempotency_key],
    responses=responses(*BODY_ERRORS),
)
async def reset(
    data: JSONBody[ResetRequest], service: NamedDependency[RunService], principal: NamedDependency[Principal]
) -> None:
    """Cancels what is going on in the session and empties its history; the session stays."""
    await service.reset(principal, data.session_id)


def _named(name: str, data: RunAgentRequest) -> StartRun:
    return StartRun(
        agent=name,
        input=data.input,
        session_id=data.session_id,
        user_id=data.user_id,
        context=data.context,
        timeout=data.timeout,
        tags=data.tags,
    )


def _chat(data: ChatRequest) -> StartRun:
    return StartRun(
        agent=data.agent,
        input=data.message,
        session_id=data.session_id,
        user_id=data.user_id,
        context=data.context,
        timeout=data.timeout,
        tags=data.tags,
    )


async def _run(
    service: RunService, principal: Principal, wanted: StartRun, include_steps: bool
) -> tuple[Started, RunFinished, list[Step] | None]:
    """Run to the end. Raises `RunFailed` where there is no answer."""
    started = await service.start(principal, wanted)
    end = await service.result(started)
    if run_status_error(end.status):
        raise RunFailed(started.run_id, end)
    return started, end, await service.steps(principal, started.run_id) if include_steps else None


async def _stream(
    request: Request[Any, Any, Any],
    service: RunService,
    principal: Principal,
    streams: OpenStreams,
    wanted: StartRun,
    include_steps: bool,
) -> Stream:
    async def begin() -> Content:
        started = await service.start(principal, wanted)
        view = sse.QuickView(
            run_id=started.run_id,
            agent_version=started.agent_version,
            request_id=request_id(request),
            steps=(lambda: service.steps(principal, started.run_id)) if include_steps else None,
        )
        return sse.encode(service.follow(started), view.frames)

    return await streams.open(begin)


HANDLERS = [list_agents, get_agent, run_agent, stream_agent, chat, stream_chat, question, history, reset]
