"""A dead model target before two replicas that share Redis: while its breaker is open it is left alone, counted by the target."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.provider import Call, StandIn, stand_in
from tests.e2e.service import Service, serve, workspace
from tests.e2e.wires import Reply, fails, says
from tests.redis_server import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
WINDOW = 3.0
TOML = """
[breaker]
failures = 2
open_seconds = {window}
[providers.first]
kind = "openai"
api = "chat"
base_url = "{url}/v1"
api_key_env = ""
[models.default]
chain = ["first/dead", "first/alive"]
"""
AGENT = "description: Answers\nkind: chat\ninstructions: Be brief.\nmodel: default\n"


def asked(provider: StandIn) -> int:
    """How many calls reached the dead model."""
    return sum(call.body["model"] == "dead" for call in provider.calls)


async def breaker(service: Service) -> str:
    """What the replica says of the dead model."""
    (route,) = (await service.json("/v1/models"))["data"]
    state: str = route["targets"][0]["breaker"]
    return state


async def ask(service: Service) -> None:
    assert (await service.chat("hello"))["response"] == "from the other"


@pytest.mark.long
async def test_one_probe_a_window_over_two_replicas(tmp_path: Path, database: str, own_redis: RedisServer) -> None:
    healed = False

    def reply(call: Call) -> Reply | None:
        if call.body["model"] == "alive":
            return says("from the other")
        return says("from the first") if healed else fails(500)

    async with stand_in(replies=reply) as provider:
        environ = {"DATABASE_URL": database, "REDIS_URL": own_redis.url}
        folders = [tmp_path / "one", tmp_path / "two"]
        toml = TOML.format(window=WINDOW, url=provider.url)
        for folder in folders:
            workspace(folder, {"steadyhand.toml": toml, "agents/assistant.yaml": AGENT})
        async with serve(folders[0], environ=environ) as one, serve(folders[1], environ=environ) as two:
            at = time.monotonic()  # the breaker opens after this
            await ask(one)
            opened = asked(provider)
            assert opened == 2, "it was asked again until its breaker opened"

            def windows() -> float:
                """How many have passed: each allows one probe."""
                return (time.monotonic() - at) / WINDOW

            for replica in (one, two):
                await until(partial(_is, replica, "open"))
                assert (await replica.ready())["checks"]["provider:first"]["status"] == "degraded"
            await asyncio.gather(*(ask(replica) for replica in (one, two) * 10))
            assert asked(provider) - opened <= windows(), "nobody asked it while its breaker was open"

            await until(partial(_is, two, "half_open"))
            await asyncio.gather(*(ask(replica) for replica in (one, two) * 10))
            assert 1 <= asked(provider) - opened <= windows(), "one probe of both"
            await until(partial(_is, one, "open"))

            healed = True
            await until(partial(_healed, two))
            await until(partial(_is, one, "closed"))
            assert (await one.chat("hello"))["response"] == "from the first"


async def _is(replica: Service, state: str) -> bool:
    return await breaker(replica) == state


async def _healed(replica: Service) -> bool:
    return bool((await replica.chat("hello"))["response"] == "from the first")
