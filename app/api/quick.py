"""The quick endpoints: ask an agent, get its answer whole or as a stream."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from app.api import sse
from app.api.authentication import SCOPE
from app.api.bodies import ChatRequest, QuestionRequest, ResetRequest, RunAgentRequest
from app.api.described import BODY_ERRORS, RUN_ERRORS, STREAM_ERRORS, WAITING, event_stream
from app.api.once import Once
from app.api.problems import responses
from app.api.schemas import AnswerResponse, ChatResponse, History, RunAgentResponse
from app.api.sessions import message_view
from app.api.turns import Turns
from app.domain.events import RunFinished
from app.domain.principals import Principal
from app.runs.service import Started, StartRun
from app.runs.sessions import SessionService
from app.runs.steps import Step


@post(
    "/agents/{name:str}",
    opt={SCOPE: "runs", "limited": True},
    status_code=200,
    tags=["agents"],
    summary="Run an agent",
    responses=WAITING | responses(*RUN_ERRORS),
)
async def run_agent(
    name: FromPath[str], data: JSONBody[RunAgentRequest], turns: NamedDependency[Turns]
) -> Response[RunAgentResponse]:
    """Runs the agent to its end and answers with the result."""
    return await turns.answer(_named(name, data), _result, include_steps=data.include_steps)


@post(
    "/agents/{name:str}/stream",
    opt={SCOPE: "runs", "limited": True},
    status_code=200,
    tags=["agents"],
    summary="Run an agent, streamed",
    responses=event_stream("The run as it goes on: start, tool, chunk, reset, then done or error")
    | responses(*STREAM_ERRORS),
)
async def stream_agent(name: FromPath[str], data: JSONBody[RunAgentRequest], turns: NamedDependency[Turns]) -> Stream:
    """Runs the agent and streams what happens as server-sent events."""
    return await turns.stream(_named(name, data), include_steps=data.include_steps)


@post(
    "/chat",
    opt={SCOPE: "runs", "limited": True},
    status_code=200,
    tags=["chat"],
    summary="One turn",
    responses=WAITING | responses(*RUN_ERRORS),
)
async def chat(data: JSONBody[ChatRequest], turns: NamedDependency[Turns]) -> Response[ChatResponse]:
    """Adds the message to its session and answers it. Turns of one session run one after another."""
    return await turns.answer(_chat(data), _response, include_steps=data.include_steps)


@post(
    "/chat/stream",
    opt={SCOPE: "runs", "limited": True},
    status_code=200,
    tags=["chat"],
    summary="One turn, streamed",
    responses=event_stream("The turn as it goes on: start, tool, chunk, reset, then done or error")
    | responses(*STREAM_ERRORS),
)
async def stream_chat(data: JSONBody[ChatRequest], turns: NamedDependency[Turns]) -> Stream:
    """Adds the message to its session and streams the answer as server-sent events."""
    return await turns.stream(_chat(data), include_steps=data.include_steps)


@post(
    "/agent",
    opt={SCOPE: "runs", "limited": True},
    status_code=200,
    tags=["chat"],
    summary="Question and answer",
    responses=WAITING | responses(*RUN_ERRORS),
)
async def question(data: JSONBody[QuestionRequest], turns: NamedDependency[Turns]) -> Response[AnswerResponse]:
    """Answers one question with the default agent, within `timeout` seconds."""
    wanted = StartRun(input=data.question, session_id=data.session_id, timeout=data.timeout, field="question")
    return await turns.answer(wanted, _answer)


@get(
    "/history/{session_id:str}",
    opt={SCOPE: "runs"},
    tags=["chat"],
    summary="A session's messages",
    responses=responses("not_found", "internal", "not_ready"),
)
async def history(
    session_id: FromPath[str], sessions: NamedDependency[SessionService], principal: NamedDependency[Principal]
) -> History:
    """The messages since the session's last reset, oldest first."""
    return History([message_view(*found) for found in await sessions.messages(principal, session_id)])


@post(
    "/reset",
    opt={SCOPE: "runs"},
    status_code=204,
    tags=["chat"],
    summary="Begin a session anew",
    responses=responses(*BODY_ERRORS),
)
async def reset(
    data: JSONBody[ResetRequest],
    sessions: NamedDependency[SessionService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[None]:
    """Cancels what is going on in the session and empties its history; the session stays."""
    return await once.answer(lambda: sessions.reset(principal, data.session_id), status=204)


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
        field="message",
        session_id=data.session_id,
        user_id=data.user_id,
        context=data.context,
        timeout=data.timeout,
        tags=data.tags,
    )


def _result(started: Started, end: RunFinished, steps: list[Step] | None) -> RunAgentResponse:
    return RunAgentResponse(
        result=end.output,
        run_id=started.run_id,
        session_id=started.session_id,
        duration_ms=end.duration_ms,
        metadata=sse.metadata(started.agent_version, end, steps, started.experiments),
    )


def _response(started: Started, end: RunFinished, steps: list[Step] | None) -> ChatResponse:
    return ChatResponse(
        response=end.output,
        session_id=started.session_id,
        run_id=started.run_id,
        metadata=sse.metadata(started.agent_version, end, steps, started.experiments),
    )


def _answer(started: Started, end: RunFinished, _: list[Step] | None) -> AnswerResponse:
    return AnswerResponse(
        answer=end.output,
        iterations=end.iterations,
        duration=round(end.duration_ms / 1000, 6),
        cached=end.cached,
        session_id=started.session_id,
        run_id=started.run_id,
    )


HANDLERS = [run_agent, stream_agent, chat, stream_chat, question, history, reset]
