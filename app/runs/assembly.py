"""How the parts of this room hang together: built once a process, from stores, a model, tools and whoever else must be told."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.domain.approvals import ApprovalStore
from app.domain.audit import AuditLog
from app.domain.hints import Hints, LiveChannel
from app.domain.idempotency import KeyStore
from app.domain.models import Provider
from app.domain.observers import RunObserver
from app.domain.screening import Screen
from app.domain.sessions import SessionStore
from app.domain.stores import RunStore
from app.domain.tiers import TierRoute
from app.domain.tools import Risk, Toolbox
from app.domain.usage import Quotes, UsageLedger
from app.runs.acceptance import Acceptance
from app.runs.admission import Admission
from app.runs.agents import Agents, Render
from app.runs.answers import Answers
from app.runs.approvals import ApprovalService
from app.runs.audit import AuditService
from app.runs.broadcast import Broadcast, Here
from app.runs.execution import Means
from app.runs.follow import Follower
from app.runs.housekeeping import Housekeeping
from app.runs.inputs import Inputs
from app.runs.leases import Leases
from app.runs.live import Feeds
from app.runs.recovery import Recovery
from app.runs.runner import Runner
from app.runs.service import RunService
from app.runs.sessions import SessionService
from app.runs.shadows import Shadows
from app.runs.stops import Stops
from app.runs.stream import KEEP_ALIVE
from app.runs.switched import SwitchedToolbox
from app.runs.switches import Switches
from app.runs.tiers import Tiering
from app.runs.usage import UsageService
from app.runs.worker import Worker


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """What the database keeps."""

    runs: RunStore
    sessions: SessionStore
    approvals: ApprovalStore
    audit: AuditLog
    keys: KeyStore
    usage: UsageLedger


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does with runs: services to ask, three loops (`worker`, `follower`, `housekeeping`), and what they share."""

    service: RunService
    sessions: SessionService
    approvals: ApprovalService
    audit: AuditService
    worker: Worker
    follower: Follower
    housekeeping: Housekeeping
    usage: UsageService
    agents: Agents
    switches: Switches
    answers: Answers
    feeds: Feeds
    here: Here


def assemble(
    *,
    stores: Stores,
    agents: Agents,
    render: Render,
    provider: Provider,
    quotes: Quotes,
    tiers: Mapping[str, TierRoute] | None = None,
    toolbox: Toolbox,
    observer: RunObserver,
    screen: Screen,
    hints: Hints,
    channel: LiveChannel | None = None,
    leases: Leases,
    answers: Answers,
    admission: Admission,
    switches: Switches,
    concurrency: int,
    lease: float,
    max_attempts: int,
    approval_ttl: float,
    four_eyes: Risk | None = None,
    keep_alive: float = KEEP_ALIVE,
) -> Runs:
    """All of it, over those stores. `tiers` are the routes that have some. `leases` tells the worker what became of its leases; whoever makes them sees to that.

    `concurrency`: runs at once, 0 executes none. `lease`, `approval_ttl` and `keep_alive` (of a stream) are seconds; `four_eyes` as in
    `ApprovalService`.
    """
    toolbox = SwitchedToolbox(toolbox=toolbox, switches=switches, denied=observer.denied)
    runs, sessions = stores.runs, stores.sessions
    feeds = Feeds(hints=hints, channel=channel)
    follower = Follower(store=runs, feeds=feeds)
    shadows = Shadows(store=runs, sessions=sessions, agents=agents, render=render, broadcast=hints, observer=observer)
    worker = Worker(
        store=runs,
        runner=Runner(
            means=Means(
                store=runs,
                sessions=sessions,
                provider=provider,
                tiering=Tiering(routes=tiers or {}, provider=provider, observer=observer),
                toolbox=toolbox,
                usage=stores.usage,
                quotes=quotes,
                answers=answers,
                observer=observer,
                screen=screen,
                approval_ttl=approval_ttl,
            ),
            feeds=feeds,
            shadows=shadows,
        ),
        recovery=Recovery(store=runs, usage=stores.usage, feeds=feeds, agents=agents, observer=observer),
        feeds=feeds,
        agents=agents,
        render=render,
        observer=observer,
        leases=leases,
        hints=hints,
        admission=admission,
        switches=switches,
        concurrency=concurrency,
        lease=lease,
        max_attempts=max_attempts,
    )
    here = Here(worker=worker, follower=follower, answers=answers, switches=switches)
    broadcast = Broadcast(receivers=[here, hints])
    stops = Stops(store=runs, observer=observer, broadcast=broadcast)
    approvals = ApprovalService(
        store=stores.approvals, runs=runs, agents=agents, observer=observer, broadcast=broadcast, four_eyes=four_eyes
    )
    acceptance = Acceptance(
        store=runs,
        sessions=sessions,
        worker=worker,
        feeds=feeds,
        stops=stops,
        broadcast=broadcast,
        observer=observer,
        quotes=quotes,
        admission=admission,
    )
    return Runs(
        service=RunService(
            store=runs,
            acceptance=acceptance,
            agents=agents,
            feeds=feeds,
            stops=stops,
            broadcast=broadcast,
            render=render,
            shadows=shadows,
            inputs=Inputs(screen=screen, observer=observer),
            switches=switches,
            keep_alive=keep_alive,
        ),
        sessions=SessionService(store=sessions, feeds=feeds, stops=stops, broadcast=broadcast),
        approvals=approvals,
        audit=AuditService(log=stores.audit),
        worker=worker,
        follower=follower,
        housekeeping=Housekeeping(
            store=runs,
            keys=stores.keys,
            usage=stores.usage,
            approvals=approvals,
            observer=observer,
            broadcast=broadcast,
            admission=admission,
            agents=agents,
        ),
        usage=UsageService(ledger=stores.usage),
        agents=agents,
        answers=answers,
        feeds=feeds,
        here=here,
        switches=switches,
    )
