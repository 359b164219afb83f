"""A repeated request gets the answer of the first one, also where a new one would be refused; and whose limits a call uses up."""

from __future__ import annotations

import asyncio
from typing import Any

from app.api.limits import LimitRules
from app.domain.principals import SCOPES, Principal
from app.runs.admission import Admission
from app.storage.local.limiter import LocalLimiter
from tests.api.problems import check
from tests.api.sockets import talking
from tests.batches.world import tagger
from tests.scripted import ScriptedProvider, says

THREE = LimitRules(requests=3, window=60.0, per=("user",))
ONE = LimitRules(requests=1, window=60.0, per=("user",))
ANN = Principal(tenant="acme", user="ann", actor="key:ann", scopes=frozenset({"runs"}))
BOB = Principal(tenant="acme", user="bob", actor="key:bob", scopes=frozenset({"runs"}))
ROOT = Principal(tenant="acme", user="root", actor="key:root", scopes=SCOPES)
KEY = {"Idempotency-Key": "k"}
BATCH = {"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]}


def answers() -> ScriptedProvider:
    return ScriptedProvider(*[says("ok")] * 9)


async def test_nobody_uses_up_the_limits_of_another_user(edge: Any) -> None:
    limiter = LocalLimiter()
    async with (
        edge(answers(), tagger(), principal=BOB, rules=THREE, limiter=limiter) as bob,
        edge(answers(), principal=ANN, rules=THREE, limiter=limiter) as ann,
    ):
        async with talking(bob.app) as talk:
            for _ in range(4):
                check(await bob.client.post("/v1/batches", json=BATCH | {"user_id": "ann"}), 403, "forbidden")
                check(await bob.client.post("/chat", json={"message": "x", "user_id": "ann"}), 403, "forbidden")
                await talk.say("run", message="x", user_id="ann")
                await talk.refused("forbidden")
        answer = await ann.client.post("/chat", json={"message": "x"})
        assert answer.headers["ratelimit-remaining"] == "2"


async def test_the_last_permitted_run_is_told_again(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=ONE) as e:
        first, *again = [await e.client.post("/chat", json={"message": "x"}, headers=KEY) for _ in range(3)]
        assert first.status_code == 200
        for answer in again:
            assert (answer.status_code, answer.json()) == (200, first.json())
            assert answer.headers["idempotency-replayed"] == "true"
        check(await e.client.post("/chat", json={"message": "y"}, headers=KEY), 422, "idempotency_key_reused")
        check(
            await e.client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "n"}), 429, "rate_limited"
        )
        assert len(e.provider.requests) == 1


async def test_over_a_socket_too(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=ONE) as e, talking(e.app) as talk:
        for _ in range(2):
            await talk.say("run", message="x", idempotency_key="k", ref="r")
            frames = await talk.hear_all()
            assert frames[0]["type"] == "ack"
        assert frames[0]["replayed"]
        await talk.say("run", message="x", idempotency_key="other")
        await talk.refused("rate_limited")


async def test_a_repeated_batch_counts_once(edge: Any) -> None:
    async with edge(answers(), tagger(), principal=ANN, rules=THREE) as e:
        found = [await e.client.post("/v1/batches", json=BATCH, headers=KEY) for _ in range(5)]
        assert [answer.status_code for answer in found] == [202] * 5
        assert len({answer.json()["id"] for answer in found}) == 1
        assert (await e.client.post("/v1/batches", json=BATCH)).status_code == 202
        assert (await e.client.post("/v1/batches", json=BATCH)).status_code == 202
        check(await e.client.post("/v1/batches", json=BATCH), 429, "rate_limited")


async def test_what_was_switched_off_since_is_told_again(edge: Any) -> None:
    async with edge(answers(), principal=ROOT) as e:
        first = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        assert (await e.client.put("/v1/controls/agent/helper", json={})).status_code == 200
        again = await e.client.post("/chat", json={"message": "x"}, headers=KEY)
        assert (again.status_code, again.json()) == (200, first.json())
        check(await e.client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "n"}), 403, "disabled")
        check(await e.client.post("/chat", json={"message": "x"}), 403, "disabled")


async def test_a_resumption_too(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "echo", "{}")), says("ok")), principal=ROOT) as e:
        body = {"agent": "helper", "input": "x", "stop_after": "tool"}
        run = (await e.client.post("/v1/runs", json=body)).json()
        assert run["status"] == "waiting", run
        resumed = await e.client.post(f"/v1/runs/{run['id']}/resume", headers=KEY)
        assert resumed.status_code in (200, 201, 202), resumed.text
        await e.became(run["id"], "succeeded")
        assert (await e.client.put("/v1/controls/agent/helper", json={})).status_code == 200
        again = await e.client.post(f"/v1/runs/{run['id']}/resume", headers=KEY)
        assert again.status_code == resumed.status_code, again.text
        assert again.headers["idempotency-replayed"] == "true"
        check(await e.client.post(f"/v1/runs/{run['id']}/resume"), 403, "disabled")


async def test_what_waits_in_a_full_queue_is_told_again(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("ok")], *[says("ok")] * 5)
    async with edge(provider, principal=ROOT, concurrency=1, admission=Admission(queue_max=1)) as e:
        body = {"agent": "helper", "input": "x", "background": True}
        await e.client.post("/v1/runs", json=body)
        waits = await e.client.post("/v1/runs", json=body, headers=KEY)
        check(await e.client.post("/v1/runs", json=body), 429, "queue_full")
        again = await e.client.post("/v1/runs", json=body, headers=KEY)
        assert (again.status_code, again.json()["id"]) == (202, waits.json()["id"])
        gate.set()
        await e.became(waits.json()["id"], "succeeded")
