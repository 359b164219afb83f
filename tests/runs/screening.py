"""Conversations that are screened, and what models were sent of them."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain.agents import Agent
from app.domain.models import ModelRequest
from app.domain.principals import ANONYMOUS
from app.domain.screening import Screening
from app.runs.service import StartRun
from tests.runs.conftest import react

ANN = "ann@example.org"


BOB = "bob@example.org"


CARD = "4242 4242 4242 4242"


KEY = "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12Mn34"


def redacting(**more: Any) -> Agent:
    return react(safety=Screening(pii="redact"), **more)


async def turn(p: Any, text: Any, session: str = "s", **more: Any) -> Any:
    return await p.service.result(await p.service.start(ANONYMOUS, StartRun(input=text, session_id=session, **more)))


def sent(request: ModelRequest) -> str:
    """All that the model was sent of the conversation."""
    return msgspec.json.encode((request.system, request.messages)).decode()


def texts(request: ModelRequest) -> list[str]:
    return [message.content for message in request.messages]
