"""A run in which people have a say: one approves a call, one says something on the way, and whoever is killed meanwhile."""

from __future__ import annotations

import asyncio

from tests.faults.runs import WITHIN, Scripted
from tests.faults.script import ATTENDED, HELD
from tests.faults.world import Effect

SAID = "And be quick about it."


class Attended(Scripted):
    """The run, with those people."""

    script = ATTENDED

    def __init__(self, **named: object) -> None:
        super().__init__(**named)  # type: ignore[arg-type]
        self._accepted = asyncio.Event()
        self._begun = asyncio.Event()

    async def finished(self, within: float = WITHIN) -> Attended:
        """Itself, posted and followed to its end."""
        self.house.world.holds = self._hold
        await self.post()
        people = asyncio.gather(self._approve(), self._speak())
        try:
            await super().finished(within)
            await people
        finally:
            people.cancel()
            await asyncio.gather(people, return_exceptions=True)
            self.house.world.holds = None
        return self

    async def _hold(self, effect: Effect) -> None:
        """The call during which somebody speaks lasts until he was heard."""
        if effect.what == HELD and self.run_id in ("", effect.run_id):  # it may come before we are told the run's id
            self._begun.set()
            await self._accepted.wait()

    async def _approve(self) -> None:
        path = f"/v1/approvals?status=pending&run_id={self.run_id}"
        while not (found := (await self.ask("GET", path)).json()["data"]):  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.02)
        answer = await self.ask("POST", f"/v1/approvals/{found[0]['id']}", {"decision": "approve"})
        assert answer.status_code == 200, answer.text

    async def _speak(self) -> None:
        await self._begun.wait()
        answer = await self.ask("POST", f"/v1/runs/{self.run_id}/messages", {"content": SAID})
        assert answer.is_success, answer.text
        self._accepted.set()

    async def problems(self, *, zombies: bool = False) -> list[str]:
        """As for any run; and the approval was asked for and given once, and what was said was heard once."""
        events = await self.journal()
        names = [event["event"] for event in events]
        wrong = await super().problems(zombies=zombies)
        for name in ("approval.requested", "approval.resolved", "run.waiting"):
            if names.count(name) != 1:
                wrong.append(f"{names.count(name)} × {name}")
        told = [e["data"]["message"]["content"] for e in events if e["event"] == "message.completed"]
        if told.count(SAID) != 1:
            wrong.append(f"what was said is {told.count(SAID)} times in the journal")
        last = self.house.model.of(self.question)[-1].call
        if sum(text.count(SAID) for text in last.texts("user")) != 1:
            wrong.append(f"what was said is not once in what the model read: {last.texts('user')}")
        return wrong
