"""What clients and load balancers are told of models whose breakers are open."""

from __future__ import annotations

from typing import Any

import pytest

from app.access.authentication import Authentication
from app.access.known import KnownKeys
from app.api.guards import Gate
from app.api.health import LoopWatch
from app.api.targets import Targets
from app.domain.tiers import TierRoute
from app.llm.breaker import Breakers
from app.settings import load
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.storage.postgres.pool import open_pool
from app.wiring.breakers import breakers_of
from app.wiring.readiness import readings_of
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider
from tests.telemetry.fakes import new_metrics
from tests.waiting import until

A, B, C = ("openai", "gpt-x"), ("anthropic", "claude-x"), ("openai", "gpt-mini")
ROUTES = {"default": (A, B), "fast": (C,), "best": (B, A)}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def fails(breakers: Breakers, target: tuple[str, str], retry_after: float | None = None) -> None:
    call = await breakers.admit(*target)
    assert call is not None
    call.failed("opens", retry_after)


async def works(breakers: Breakers, target: tuple[str, str]) -> None:
    call = await breakers.admit(*target)
    assert call is not None
    call.succeeded()


async def statuses(edge: Any) -> dict[str, str]:
    agents = {agent["name"]: agent["status"] for agent in (await edge.client.get("/agents")).json()}
    for name, status in agents.items():
        assert (await edge.client.get(f"/agents/{name}")).json()["status"] == status
    return agents


async def test_routes_with_their_targets(edge: Any) -> None:
    clock = Clock()
    async with edge(ScriptedProvider(), routes=ROUTES, clock=clock) as e:

        async def models() -> dict[str, list[tuple[str, str, float | None]]]:
            answer = (await e.client.get("/v1/models")).json()
            assert set(answer) == {"data"}
            assert [set(route) for route in answer["data"]] == [{"route", "targets"}] * 3
            assert all(
                target.pop("refused_parameters") == [] for route in answer["data"] for target in route["targets"]
            )
            return {
                route["route"]: [
                    (f"{target.pop('provider')}/{target.pop('model')}", *target.values()) for target in route["targets"]
                ]
                for route in answer["data"]
            }

        closed = ("closed", None)
        assert await models() == {
            "best": [("anthropic/claude-x", *closed), ("openai/gpt-x", *closed)],
            "default": [("openai/gpt-x", *closed), ("anthropic/claude-x", *closed)],
            "fast": [("openai/gpt-mini", *closed)],
        }
        await fails(e.breakers, A, retry_after=45.0)
        clock.now += 10.25
        assert (await models())["default"] == [("openai/gpt-x", "open", 34.75), ("anthropic/claude-x", *closed)]
        assert (await models())["best"] == [("anthropic/claude-x", *closed), ("openai/gpt-x", "open", 34.75)]
        clock.now += 34.75
        assert (await models())["default"][0] == ("openai/gpt-x", "half_open", None)
        await works(e.breakers, A)
        assert (await models())["default"][0] == ("openai/gpt-x", *closed)


async def test_an_agent_is_as_ready_as_its_route(edge: Any) -> None:
    clock = Clock()
    agents = [react(name=name, model=name) for name in ("default", "fast", "best", "nowhere")]
    async with edge(ScriptedProvider(), *agents, routes=ROUTES, clock=clock) as e:
        ready = dict.fromkeys(ROUTES, "ready") | {"nowhere": "unavailable"}
        assert await statuses(e) == ready
        await fails(e.breakers, A)
        assert await statuses(e) == ready | {"default": "degraded"}
        await fails(e.breakers, C)
        assert await statuses(e) == ready | {"default": "degraded", "fast": "unavailable"}
        clock.now += 10
        await fails(e.breakers, B)
        assert await statuses(e) == dict.fromkeys([*ROUTES, "nowhere"], "unavailable")
        clock.now += 20
        assert await statuses(e) == dict.fromkeys(ROUTES, "degraded") | {"nowhere": "unavailable"}
        for target in (A, C):
            await works(e.breakers, target)
        assert await statuses(e) == ready | {"best": "degraded"}


async def test_readiness_judges_providers_by_their_breakers(database: str) -> None:
    clock = Clock()
    breakers = Breakers(clock=clock)
    async with open_pool(database) as pool:
        targets = Targets(routes=ROUTES, breakers=breakers)
        keys = KnownKeys(store=PostgresApiKeyStore(database=pool))
        readings = readings_of(
            pool, Gate(None), LoopWatch(), targets, None, Authentication(keys=keys, tokens=None, keyless="until_keys")
        )

        async def providers() -> tuple[str, dict[str, tuple[str, str | None]]]:
            taken = await readings.take()
            found = {n: (c.status, c.detail) for n, c in taken.checks.items() if n.startswith("provider:")}
            return taken.status, {name.removeprefix("provider:"): told for name, told in found.items()}

        assert await providers() == ("ready", {"anthropic": ("ok", None), "openai": ("ok", None)})
        await fails(breakers, A)
        clock.now += 18.4
        await fails(breakers, C, retry_after=60.0)
        told = "openai/gpt-mini: open for another 60 s; openai/gpt-x: open for another 12 s"
        assert await providers() == ("degraded", {"anthropic": ("ok", None), "openai": ("degraded", told)})
        clock.now += 11.59
        assert (await providers())[1]["openai"][1] == (
            "openai/gpt-mini: open for another 48 s; openai/gpt-x: open for another 1 s"
        )
        clock.now += 1
        assert (await providers())[1]["openai"][1] == (
            "openai/gpt-mini: open for another 47 s; openai/gpt-x: half-open, tried by one call at a time"
        )
        await readings.aclose()


async def test_the_metrics_page_has_every_target_from_the_start() -> None:
    chains = {
        "STEADYHAND__MODELS": '{"default": {"chain": ["offline/a", "offline/b"]}, "fast": {"chain": ["offline/b"]}}'
    }
    metrics, registry = new_metrics()
    breakers = breakers_of(load(chains | {"STEADYHAND__BREAKER__OPEN_SECONDS": "0.05"}, {}), None, metrics)
    assert breakers.targets == [("offline", "a"), ("offline", "b")]

    def level(model: str) -> float | None:
        return registry.get_sample_value("agent_llm_breaker_state", {"provider": "offline", "model": model})

    assert (level("a"), level("b")) == (0, 0)
    await fails(breakers, ("offline", "b"), retry_after=3600.0)
    assert (level("a"), level("b")) == (0, 1)
    await fails(breakers, ("offline", "a"))
    await until(lambda: level("a") == 2)
    await works(breakers, ("offline", "a"))
    assert (level("a"), level("b")) == (0, 1)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_models_are_only_read(edge: Any, method: str) -> None:
    async with edge(ScriptedProvider()) as e:
        assert (await e.client.request(method, "/v1/models")).status_code == 405


async def test_an_agent_whose_route_has_tiers_is_as_ready_as_they_all_are(edge: Any) -> None:
    tiers = {"auto": TierRoute(routes={"cheap": "fast", "mid": "default", "premium": "default"}, classifier="fast")}
    routes = {"default": (A, B), "fast": (C,)}
    async with edge(ScriptedProvider(), react(name="auto", model="auto"), routes=routes, tiers=tiers) as e:
        (auto, *_) = (await e.client.get("/v1/models")).json()["data"]
        assert auto == {
            "route": "auto",
            "targets": [],
            "tiers": {
                "cheap": "fast",
                "mid": "default",
                "premium": "default",
                "default": "mid",
                "cheap_below": 0.0,
                "premium_from": 0.4,
                "classifier": "fast",
            },
        }
        assert await statuses(e) == {"auto": "ready"}
        await fails(e.breakers, C)
        assert await statuses(e) == {"auto": "degraded"}
        await fails(e.breakers, A)
        await fails(e.breakers, B)
        assert await statuses(e) == {"auto": "unavailable"}
