"""What is kept of earlier turns is the same as what the journal says, and bounded."""

from __future__ import annotations

from typing import Any

from app.domain.fold import RunState
from app.domain.messages import Message
from app.domain.principals import ANONYMOUS
from app.domain.sessions import Base
from app.domain.stores import Owned
from app.runs.histories import Histories, History
from app.runs.service import StartRun
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says


async def turn(p: Any, text: str) -> None:
    await p.service.result(await p.service.start(ANONYMOUS, StartRun(input=text, session_id="s")))


async def test_kept_and_read_histories_are_the_same(start_process: Any) -> None:
    first = ScriptedProvider(says("", ("c1", "echo", "{}")), says("one"), says("two"), says("three"))
    second = ScriptedProvider(says("three, elsewhere"))
    async with start_process(first) as p:
        await turn(p, "a")
        await turn(p, "b")
        async with start_process(second) as q:
            await turn(q, "c")
            assert second.requests[0].messages[:-1] == (*first.requests[2].messages, second.requests[0].messages[-2])
        await turn(p, "d")
        assert [m.content for m in first.requests[3].messages][-4:] == ["two", "c", "three, elsewhere", "d"]


def owned(session_id: str, number: int) -> Owned:
    return Owned(
        run_id="r", tenant="t", user_id=None, session_id=session_id, session_epoch=1, turn=number, agent="a",
        agent_version="v", epoch=1, attempt=1, last_seq=2, traceparent=None, remaining=None, queued=0.0,
    )  # fmt: skip


async def test_the_sessions_used_last_are_kept() -> None:
    class NoStore:
        async def history(self, *_: object) -> tuple[Base, list[Any]]:
            return Base(), []

    histories = Histories(store=NoStore(), most=2500)  # type: ignore[arg-type]  # all that is asked of it here
    for name in ("a", "b", "c"):
        state = RunState(agent=react(), system="", history=())
        state.messages.append(Message(id=name, role="user", content="x" * 500))
        histories.keep(owned(name, 1), state)
    assert [bool((await histories.before(owned(name, 2))).messages) for name in ("a", "b", "c")] == [False, True, True]
    assert await histories.before(owned("c", 2)) == History(), (
        "it is handed out once: the turn it was for keeps the next"
    )
