"""One scripted run from its post to its end, whatever happens on the way, and what must be true of it then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx2

from tests.faults.follower import Follower
from tests.faults.house import House
from tests.faults.rules import objections, stored
from tests.faults.script import WORK, Script
from tests.faults.world import WRITES

Events = list[dict[str, Any]]
WITHIN = 60.0
"""Seconds for a whole run."""


class Scripted:
    """A run of the script under a name of its own. `run_id` is there once it was accepted."""

    script: Script = WORK

    def __init__(self, *, house: House, name: str, api: str = "chat") -> None:
        self.house = house
        self.api = api
        self.question = f"{self.script.question}{name}"
        self.session = f"s-{abs(hash(name)):x}-{time.time_ns():x}"
        self.run_id = ""
        self.follower: Follower | None = None

    async def post(self, **more: Any) -> str:
        """Its id: sent again under the same key until somebody answers."""
        body = {"agent": self.api, "input": self.question, "session_id": self.session, "background": True, **more}
        if not self.run_id:
            answer = await self.ask("POST", "/v1/runs", body)
            assert answer.status_code == 202, answer.text
            self.run_id = answer.json()["id"]
        return self.run_id

    async def ask(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        """The answer to a request that is sent, under one key, until somebody answers it."""
        deadline, key = time.monotonic() + WITHIN, uuid4().hex
        while True:
            assert time.monotonic() < deadline, f"nobody answers {path}"
            url = f"http://127.0.0.1:{self.house.edge.port}{path}"
            headers = {"Idempotency-Key": key} if method == "POST" else {}
            try:
                async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=10.0) as client:
                    answer = await client.request(method, url, json=body, headers=headers)
                if answer.status_code != 503:
                    return answer
            except httpx2.TransportError:
                pass  # it is started again
            await asyncio.sleep(0.02)

    async def follow(self, within: float = WITHIN) -> Follower:
        """A reader of its stream from the first event, who has seen the end."""
        self.follower = Follower(port=self.house.edge.port, path=f"/v1/runs/{self.run_id}/events")
        return await self.follower.run(within)

    async def finished(self, within: float = WITHIN) -> Scripted:
        """Itself, posted and followed to its end."""
        await self.post()
        await self.follow(within)
        return self

    async def journal(self) -> Events:
        return await self.house.edge.service.events(self.run_id)

    async def problems(self, *, zombies: bool = False) -> list[str]:
        """Every promise that was not kept. A run that succeeded is expected.

        `zombies`: a process that stood still may have been about to do what another one did meanwhile, and do it once more
        before it knows; but nothing that writes.
        """
        run = await self.house.edge.service.json(f"/v1/runs/{self.run_id}")
        events = await self.journal()
        told = {"status": run["status"], "output": run["output"]}
        wrong = (
            []
            if told == {"status": "succeeded", "output": self.script.final}
            else [f"the run is {told}, {run['error']}"]
        )
        wrong += await self._once()
        wrong += (
            ordered(events, len(self.script.steps)) + self.repeated(events, zombies=zombies) + await self.histories()
        )
        if not zombies:
            wrong += await booked(self.house, self.run_id, events, len(self.house.model.of(self.question)))
        if self.follower is not None:
            wrong += self.follower.problems
            if self.follower.spelt != self.script.final:
                wrong.append(f"the stream spells {self.follower.spelt!r}")
        doubtful = any(e["data"]["status"] == "outcome_unknown" for e in events if e["event"] == "tool.finished")
        if run.get("outcome_unknown", False) != doubtful:
            wrong.append(f"outcome_unknown of the run is {run.get('outcome_unknown')}, of a call {doubtful}")
        return wrong

    async def _once(self) -> list[str]:
        runs = (await self.house.edge.service.json(f"/v1/runs?session_id={self.session}"))["data"]
        return [] if [run["id"] for run in runs] == [self.run_id] else [f"the session's runs: {runs}"]

    def repeated(self, events: Events, *, zombies: bool) -> list[str]:
        """What was done again although its end was stored, or although it writes."""
        effects = self.house.world.of(self.run_id)
        ended = {e["data"]["call_id"]: _seconds(e["at"]) for e in events if e["event"] == "tool.finished"}
        wrong = [
            f"{effect.tool} {effect.what} had ended and was executed again"
            for effect in effects
            if effect.at > ended.get(effect.call_id, effect.at) + 0.001 and not zombies
        ]
        writes = Counter(effect.what for effect in effects if effect.tool in WRITES)
        wrong += [f"a write was executed {count} times: {what}" for what, count in writes.items() if count > 1]
        for call in {effect.call_id for effect in effects}:
            keys = {effect.key for effect in effects if effect.call_id == call}
            wrong += [f"{call} was repeated under other keys: {keys}"] if len(keys) > 1 else []
        whole = [_seconds(e["at"]) for e in events if _answer(e)]
        wrong += [
            f"model call {asked.step} was stored and paid for again"
            for asked in self.house.model.of(self.question)
            if asked.step <= len(whole) and asked.call.at > whole[asked.step - 1] + 0.001 and not zombies
        ]
        return wrong

    async def histories(self) -> list[str]:
        """What a provider would refuse: in what it was asked last, and in what the service shows of the session."""
        wrong = [said for said in self.house.model.refused if said.startswith(f"{self.question}:")]
        asked = self.house.model.of(self.question)
        if asked:
            last = asked[-1].call
            wrong += [f"asked last: {said}" for said in objections(last.api, last.messages)]
            if missing := self.script.calls.keys() - set(last.calls):
                wrong.append(f"asked last without {sorted(missing)}")
        page = await self.house.edge.service.json(f"/v1/sessions/{self.session}/messages?limit=200")
        wrong += [f"session: {said}" for said in stored(page["data"])]
        answers = [message for message in page["data"] if message["role"] == "assistant"]
        if len(answers) != len(self.script.steps):
            wrong.append(f"the session has {len(answers)} answers, not {len(self.script.steps)}")
        return wrong


def ordered(events: Events, wanted: int) -> list[str]:
    """What is wrong with a journal of so many answers: gaps, ends, calls with no outcome or two, attempts that do not count up."""
    wrong: list[str] = []
    if [int(e["id"]) for e in events] != list(range(1, len(events) + 1)):
        wrong.append(f"seqs with gaps: {[e['id'] for e in events]}")
    names = [e["event"] for e in events]
    if names.count("run.finished") != 1 or names[-1] != "run.finished":
        wrong.append(f"not one end: {names}")
    attempts = [e["data"]["attempt"] for e in events if e["event"] == "run.started"]
    if attempts != list(range(1, len(attempts) + 1)):
        wrong.append(f"attempts: {attempts}")
    outcomes = Counter(e["data"]["call_id"] for e in events if e["event"] == "tool.finished")
    begun = {e["data"]["call_id"] for e in events if e["event"] == "tool.started"}
    wrong += [f"call {call} has {outcomes[call]} outcomes" for call in begun | outcomes.keys() if outcomes[call] != 1]
    if (answers := sum(map(_answer, events))) != wanted:
        wrong.append(f"{answers} answers of the model, not {wanted}")
    return wrong


async def booked(house: House, run_id: str, events: Events, asked: int) -> list[str]:
    """What is wrong with the ledger of a run that ended and `asked` a provider so often: requests without a row, rows that are open or
    that the journal does not tell of in the same words, and what is reserved still.
    """
    rows = await house.query("SELECT * FROM usage WHERE run_id = $1 ORDER BY started_at, id", run_id)
    wrong = [f"{asked} requests, {len(rows)} rows"] if len(rows) < asked else []
    wrong += [f"attempt {row['id']} is open" for row in rows if row["settled_at"] is None]
    booked = Counter(
        (row["basis"], row["outcome"], None if row["cost_usd"] is None else float(row["cost_usd"])) for row in rows
    )
    told = Counter(
        (e["data"]["basis"], e["data"]["outcome"], e["data"]["cost_usd"])
        for e in events
        if e["event"] == "usage.recorded"
    )
    wrong += [f"the rows are {booked}, the journal tells {told}"] if booked != told else []
    held = await house.query(
        "SELECT sum(reserved) AS now, (SELECT coalesce(sum(reserved_usd), 0) FROM usage WHERE settled_at IS NULL) AS open FROM budgets"
    )
    return wrong + [
        f"{row['now']} is reserved, for open attempts {row['open']}" for row in held if row["now"] != row["open"]
    ]


def recovered_after(events: Events, cut: float, restart: float) -> float | None:
    """Seconds from the cut (Unix seconds) to the next attempt, without the `restart`; None: there was none."""
    begun = [_seconds(e["at"]) - cut for e in events if e["event"] == "run.started" and _seconds(e["at"]) > cut]
    return max(0.0, min(begun) - restart) if begun else None


def _answer(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "message.completed" and event["data"]["message"]["role"] == "assistant")


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
