"""The rounds: every service does the same jobs, one after the other, in an order that alternates."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg
import msgspec

from ops.bench.load import Streams, StreamsResult, Turns, TurnsResult, percentile
from ops.bench.processes import completed, rss_mib
from ops.bench.routed import Routed, RoutedResult
from ops.bench.stack import ROOT, Service, Stack, cores

HISTORY_TURNS = 25  # a turn with a tool leaves four messages: 100 of them
STATISTICS_DELAY = 12.0  # seconds after which idle PostgreSQL backends have reported their counters (10 s is theirs)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what. `parts`: turn, history, latency, stream, queue, router. `token_rate`: tokens per second of each stream; `stream_tokens`: of all together."""

    rounds: int
    parts: frozenset[str]
    turns: int
    history_sessions: int
    latency_turns: int
    streams: tuple[int, ...]
    stream_tokens: int
    token_rate: float
    routed_calls: int


class Samples:
    """What was seen: values by service and metric, and everything that failed."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.failures: list[str] = []

    def add(self, service: Service, **values: float) -> None:
        for metric, value in values.items():
            self.values[service.name][metric].append(value)

    def failed(self, service: Service, what: str, count: int, examples: list[str]) -> None:
        if count:
            self.failures.append(f"{service.name}, {what}: {count} failed, for example {'; '.join(examples)}")


class Bench:
    """Runs jobs of the load generator against the services of a stack and collects their samples."""

    def __init__(self, *, stack: Stack, plan: Plan) -> None:
        self._stack = stack
        self._plan = plan
        self.samples = Samples()
        self._numbers = 0
        # Each round adds a turn to the long histories: in the middle round they have 100 messages.
        self._turns_before = HISTORY_TURNS - plan.rounds // 2

    async def run(self) -> Samples:
        """All parts of the plan were measured in all rounds."""
        parts = self._plan.parts
        for service in self._stack.queued:
            await self._turns(service, "warm-up", 4, self._fresh(40), agent="plain")
        for service in self._stack.services:
            await self._turns(service, "warm-up", 4, self._fresh(40))
            self.samples.add(service, rss_idle_mib=rss_mib(service.pid))
            if "history" in parts:
                sessions = self._histories()
                said(f"{service.name}: writing {len(sessions)} histories of 100 messages")
                await self._turns(service, "histories", 4, sessions * self._turns_before)
        if "turn" in parts:
            await self._commits()
        for number in range(self._plan.rounds):
            ordered = self._stack.services if number % 2 == 0 else self._stack.services[::-1]
            for part, measured in self._parts():
                for service in ordered:
                    said(f"round {number + 1}/{self._plan.rounds}: {part}, {service.name}")
                    await measured(service)
            for service in self._stack.queued:
                said(f"round {number + 1}/{self._plan.rounds}: queue")
                await self._queue(service)
            if "router" in parts:
                said(f"round {number + 1}/{self._plan.rounds}: router")
                await self._router()
        return self.samples

    def _parts(self) -> Sequence[tuple[str, Callable[[Service], Awaitable[None]]]]:
        plain = [("turn", self._turn), ("history", self._history), ("latency", self._latency)]
        parts = [(name, measured) for name, measured in plain if name in self._plan.parts]
        if "stream" in self._plan.parts:
            parts += [(f"{count} streams", partial(self._streams, count=count)) for count in self._plan.streams]
        return parts

    async def _turn(self, service: Service) -> None:
        seen = await self._turns(service, "turn", 16, self._fresh(self._plan.turns))
        done = len(seen.milliseconds)
        self.samples.add(
            service,
            turns_per_s=done / seen.seconds,
            cpu_ms_per_turn=seen.cpu * 1000 / done,
            idle_ms_per_s=seen.idle * 1000,
        )

    async def _queue(self, service: Service) -> None:
        """Trivial turns that one process accepts and another one executes; everything shares the machine's cores."""
        for users in (1, 16):
            seen = await self._turns(
                service, f"queue, {users} users", users, self._fresh(self._plan.turns), agent="plain"
            )
            self.samples.add(
                service,
                **{
                    f"queue_{users}_turns_per_s": len(seen.milliseconds) / seen.seconds,
                    f"queue_{users}_start_p50": percentile(seen.queued, 0.5),
                    f"queue_{users}_start_p99": percentile(seen.queued, 0.99),
                },
            )

    async def _router(self) -> None:
        """Model calls through the router with all that belongs to it, and past it, in one process of their own."""
        assert self._stack.router_dsn is not None
        job = Routed(
            mock_port=self._stack.mock_port,
            dsn=self._stack.router_dsn,
            calls=self._plan.routed_calls,
            workspace=str(ROOT / "ops/bench/workspace"),
        )
        command = [sys.executable, "-m", "ops.bench.routed", msgspec.json.encode(job).decode()]
        serving, _ = cores()
        seen = msgspec.json.decode(await completed(command, cwd=ROOT, cores=serving), type=RoutedResult)
        values = self.samples.values["router"]
        values["router_on_ms"].append(seen.on)
        values["router_off_ms"].append(seen.off)
        values["router_cost_ms"].append(seen.on - seen.off)

    async def _history(self, service: Service) -> None:
        """One turn on each long session and one on as many new ones."""
        sessions = self._histories()
        count = len(sessions)
        fresh = await self._turns(service, "empty history", 4, self._fresh(count))
        long = await self._turns(service, "long history", 4, sessions)
        if not long.failed and long.messages < self._turns_before * 4:
            self.samples.failed(service, "long history", 1, [f"the model was given {long.messages} messages only"])
        self.samples.add(
            service,
            cpu_ms_empty=fresh.cpu * 1000 / count,
            cpu_ms_history=long.cpu * 1000 / count,
            history_ratio=long.cpu / fresh.cpu,
        )

    async def _latency(self, service: Service) -> None:
        """What the service adds to two model calls of 500 ms each."""
        for users in (1, 32):
            seen = await self._turns(
                service, f"latency of {users}", users, self._fresh(users * self._plan.latency_turns), agent="slow"
            )
            added = [value - 1000 for value in seen.milliseconds]
            self.samples.add(
                service,
                **{f"latency_{users}_p50": percentile(added, 0.5), f"latency_{users}_p99": percentile(added, 0.99)},
            )

    async def _commits(self) -> None:
        """Commits that a turn costs, counted by PostgreSQL; what the services commit while idle is taken off."""
        turns = 100
        said(f"commits: {turns} turns each, and {3 * STATISTICS_DELAY:.0f} s for PostgreSQL to report")
        counts: list[list[int]] = []
        times: list[float] = []
        for busy in (False, False, True):
            if busy:
                for service in self._stack.services:
                    await self._turns(service, "commits", 4, self._fresh(turns))
            await asyncio.sleep(STATISTICS_DELAY)
            counts.append([await self._committed(service) for service in self._stack.services])
            times.append(time.monotonic())
        share = (times[2] - times[1]) / (times[1] - times[0])
        for service, first, second, third in zip(self._stack.services, *counts, strict=True):
            self.samples.add(service, commits_per_turn=(third - second - (second - first) * share) / turns)

    async def _committed(self, service: Service) -> int:
        connection = await asyncpg.connect(self._stack.dsn)
        try:
            return int(
                await connection.fetchval(
                    "SELECT xact_commit FROM pg_stat_database WHERE datname = $1", service.database
                )
            )
        finally:
            await connection.close()

    async def _streams(self, service: Service, count: int) -> None:
        """`count` answers at once, each at the plan's rate."""
        job = Streams(
            port=service.port,
            pid=service.pid,
            mock_port=self._stack.mock_port,
            streams=count,
            tokens=max(1, self._plan.stream_tokens // count),
            per_second=self._plan.token_rate,
            session=self._fresh(1)[0],
        )
        seen = msgspec.json.decode(await self._load(job), type=StreamsResult)
        self.samples.failed(service, f"{count} streams", seen.failed, seen.failures)
        if seen.tokens:
            self.samples.add(
                service,
                **{
                    f"token_us_{count}": seen.cpu * 1e6 / seen.tokens,
                    f"tokens_per_s_{count}": seen.tokens / seen.seconds,
                    f"lag_{count}_p50": seen.lag_p50,
                    f"lag_{count}_p99": seen.lag_p99,
                    f"rss_{count}_mib": seen.rss,
                },
            )

    async def _turns(
        self, service: Service, what: str, users: int, sessions: list[str], agent: str = "turn"
    ) -> TurnsResult:
        job = Turns(port=service.port, pid=service.pid, agent=agent, users=users, sessions=sessions)
        seen = msgspec.json.decode(await self._load(job), type=TurnsResult)
        self.samples.failed(service, what, seen.failed, seen.failures)
        return seen

    async def _load(self, job: Turns | Streams) -> bytes:
        return await completed(
            [sys.executable, "-m", "ops.bench.load", msgspec.json.encode(job).decode()],
            cwd=ROOT,
            cores=self._stack.spare,
        )

    def _histories(self) -> list[str]:
        """Names of the sessions with a long history."""
        return [f"history-{n}" for n in range(self._plan.history_sessions)]

    def _fresh(self, count: int) -> list[str]:
        """Names of sessions that nobody used."""
        self._numbers += count
        return [f"s{self._numbers - n}" for n in range(count)]


def said(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)
