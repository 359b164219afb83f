"""Ending runs that are ours but cannot be executed: poisonous ones, late ones, and those that cannot even be begun."""

from __future__ import annotations

import logging

from app.agent.decide import Finish
from app.agent.endings import excused
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import DatabaseUnavailable, Fenced
from app.domain.fold import UNFINISHED, RunState
from app.domain.observers import EndedRun, RunObserver
from app.domain.stores import Owned, RunStore
from app.domain.usage import UsageLedger
from app.runs import record
from app.runs.agents import Agents
from app.runs.ids import message_id
from app.runs.journal import Entry, Journal
from app.runs.live import Feeds
from app.runs.patience import patiently

log = logging.getLogger(__name__)

PAGE = 200


class Recovery:
    """Writes the end of runs that are ours but not being executed."""

    def __init__(
        self, *, store: RunStore, usage: UsageLedger, feeds: Feeds, agents: Agents, observer: RunObserver
    ) -> None:
        self._store = store
        self._usage = usage
        self._feeds = feeds
        self._agents = agents
        self._observer = observer

    async def end(self, owned: Owned, end: Finish) -> None:
        """Write the end of that run, with its agent's reply where that goes in the place of an error: no call is left without
        an outcome, and no attempt open. Waits while the database is away.
        """
        feed = self._feeds.open(owned.run_id)
        journal = Journal(store=self._store, feed=feed, run_id=owned.run_id, epoch=owned.epoch, last_seq=owned.last_seq)
        agent, state = await patiently(lambda: self._state(owned))
        lost: list[Entry] = []
        for attempt in await patiently(lambda: self._usage.lost(owned.run_id, owned.epoch)):
            event, settles = record.abandoned(attempt)
            lost.append(Entry(event, settles=settles))
            state.apply(event)
        for call in list(state.open_calls.values()):
            spec = agent.tool(call.name)
            lost.append(Entry(record.unseen_end(call, spec.effect if spec else None, UNFINISHED)))
            state.apply(lost[-1].event)
        if owned.attempt > 1 and (excuse := excused(end, agent)) is not None:  # one that never began is told so
            end = excuse
            lost.append(Entry(_reply(owned, agent)))
        finished = record.finished(end, state, queued=owned.queued)
        try:
            await journal.finish(lost, finished, read=None)
        except Fenced:
            self._observer.fenced()
            self._feeds.release(owned.run_id)
            return
        run = EndedRun(run_id=owned.run_id, session_id=owned.session_id, agent=owned.agent)
        self._observer.unstarted(run, finished)
        self._feeds.end(owned.run_id, finished)

    async def _state(self, owned: Owned) -> tuple[Agent, RunState]:
        """How far the run got. What cannot be read (written by a later release, say) must not keep others from being ended."""
        unknown = Agent(name=owned.agent, description="", kind="chat", instructions="")
        try:
            agent = await self._agents.version(owned.tenant, owned.agent, owned.agent_version) or unknown
            state = RunState(agent=agent, system="", history=())
            after = 0
            while page := await self._store.events(owned.run_id, after, PAGE):
                for stored in page:
                    state.apply(ev.decode(stored), stored.private)
                after = page[-1].seq
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception(
                "the journal of a run cannot be read; it is ended all the same", extra={"run_id": owned.run_id}
            )
            return unknown, RunState(agent=unknown, system="", history=())
        return agent, state


def _reply(owned: Owned, agent: Agent) -> ev.MessageCompleted:
    """The agent's own reply, under an id that no message of an earlier owner has."""
    assert isinstance(agent.fallback_reply, str)
    new_id = message_id(owned.run_id, owned.last_seq)
    said = ev.VisibleMessage(id=new_id, role="assistant", content=agent.fallback_reply, stop="stop")
    return ev.MessageCompleted(message=said)
