"""The peer: the service one writes with FastAPI, LangGraph and its PostgreSQL checkpointer, following their documentation.

A graph of the model and a `ToolNode` with `tools_condition`, compiled with one `AsyncPostgresSaver` on a psycopg pool; `ainvoke` for
the JSON route, `astream(stream_mode="messages")` for SSE. The thread is the session. Environment: DATABASE_URL, OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from langchain_core.messages import AIMessageChunk, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

MODELS = {"turn": "turn", "slow": "turn-500", "stream": "stream"}
SYSTEM = SystemMessage("You add numbers with your tool.")


class ChatRequest(BaseModel):
    message: str
    session_id: str
    agent: str = "turn"


class ChatResponse(BaseModel):
    response: str
    session_id: str


@tool
async def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def build_graph(model_name: str, saver: AsyncPostgresSaver) -> Any:
    model = ChatOpenAI(model=model_name).bind_tools([add])

    async def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([SYSTEM, *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=2, max_size=20, kwargs=options, open=False
    ) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        app.state.graphs = {agent: build_graph(model, saver) for agent, model in MODELS.items()}
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/chat")
async def chat(body: ChatRequest, request: Request) -> ChatResponse:
    config = {"configurable": {"thread_id": body.session_id}}
    state = await request.app.state.graphs[body.agent].ainvoke({"messages": [("user", body.message)]}, config)
    return ChatResponse(response=state["messages"][-1].text, session_id=body.session_id)


@app.post("/chat/stream")
async def chat_stream(body: ChatRequest, request: Request) -> StreamingResponse:
    config = {"configurable": {"thread_id": body.session_id}}
    graph = request.app.state.graphs[body.agent]

    async def events() -> AsyncIterator[str]:
        async for chunk, _ in graph.astream({"messages": [("user", body.message)]}, config, stream_mode="messages"):
            if isinstance(chunk, AIMessageChunk) and chunk.text:
                yield f"event: chunk\ndata: {json.dumps({'text': chunk.text})}\n\n"
        yield "event: done\ndata: {}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
