"""How many runs a caller may start: what counts, what a refused caller is told, and what its refusal costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.api.limits import REPEATS, LimitRules
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import ANONYMOUS, SCOPES, Principal
from app.runs.admission import Admission
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.limiter import RedisLimiter
from app.storage.redis.live import open_live
from tests.api.problems import check
from tests.api.sockets import talking
from tests.batches.world import tagger
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

ANN = Principal(tenant="acme", user="ann", actor="key:one", scopes=SCOPES)
BOB = Principal(tenant="acme", user="bob", actor="key:two", scopes=SCOPES)
BACKEND = Principal(tenant="acme", actor="key:one", scopes=SCOPES)
THREE = LimitRules(requests=3, window=60.0, per=("user", "key"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answers(count: int = 40) -> ScriptedProvider:
    return ScriptedProvider(*[says("ok")] * count)


async def test_the_fourth_of_three_is_told_when_to_come_again(edge: Any) -> None:
    clock = Clock()
    async with edge(answers(), principal=ANN, rules=THREE, limiter=LocalLimiter(clock=clock)) as e:
        for left in (2, 1, 0):
            response = await e.client.post("/chat", json={"message": "x"})
            assert response.status_code == 200
            assert response.headers["ratelimit-limit"] == "3"
            assert response.headers["ratelimit-remaining"] == str(left)
            assert 60 <= int(response.headers["ratelimit-reset"]) <= 61
        refused = await e.client.post("/chat", json={"message": "x"})
        problem = check(refused, 429, "rate_limited")
        assert refused.headers["ratelimit-remaining"] == "0"
        wait = int(refused.headers["retry-after"])
        assert 60 <= wait <= 61
        assert str(wait) in problem["detail"]
        assert len((await e.client.get("/v1/runs")).json()["data"]) == 3
        clock.now += wait
        assert (await e.client.post("/chat", json={"message": "x"})).status_code == 200
        assert 'agent_rate_limited_total{scope="user"} 1.0' in (await e.client.get("/metrics")).text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/chat", {"message": "x"}),
        ("POST", "/chat/stream", {"message": "x"}),
        ("POST", "/agents/helper", {"input": "x"}),
        ("POST", "/agents/helper/stream", {"input": "x"}),
        ("POST", "/agent", {"question": "x"}),
        ("POST", "/chat/async", {"message": "x"}),
        ("POST", "/v1/runs", {"agent": "helper", "input": "x"}),
        ("POST", "/v1/batches", {"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]}),
    ],
)
async def test_every_way_to_start_something_counts(edge: Any, method: str, path: str, body: Any) -> None:
    rules = LimitRules(requests=1, window=60.0, per=("key",))
    async with edge(answers(), react(), tagger(), principal=ANN, rules=rules) as e:
        assert (await e.client.request(method, path, json=body)).status_code < 300
        check(await e.client.request(method, path, json=body), 429, "rate_limited")
        check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")


async def test_a_failed_run_that_is_resumed_counts(edge: Any) -> None:
    rules = LimitRules(requests=2, window=60.0, per=("key",))
    provider = ScriptedProvider([RuntimeError("broken")], says("ok"))
    async with edge(provider, principal=ANN, rules=rules) as e:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": "x"})).json()
        assert run["status"] == "failed"
        resumed = await e.client.post(f"/v1/runs/{run['id']}/resume", json={})
        assert resumed.status_code == 201
        assert resumed.headers["ratelimit-remaining"] == "0"
        check(await e.client.post(f"/v1/runs/{run['id']}/resume", json={}), 429, "rate_limited")


async def test_what_starts_nothing_does_not_count(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=THREE) as e:
        for _ in range(5):
            assert (await e.client.get("/agents")).status_code == 200
            assert (await e.client.get("/v1/runs")).status_code == 200
            check(await e.client.post("/chat", json={"message": 1}), 422, "validation_error")
            check(await e.client.post("/chat", content=b"{"), 415, "unsupported_media_type")
        await e.ask(session_id="s")
        for _ in range(5):
            assert (await e.client.post("/reset", json={"session_id": "s"})).status_code == 204
        assert (await e.client.post("/chat", json={"message": "x"})).headers["ratelimit-remaining"] == "1"


async def test_a_repeated_request_does_not_count_twice(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=THREE) as e:
        key = {"Idempotency-Key": "k"}
        for _ in range(5):
            response = await e.client.post("/chat", json={"message": "x"}, headers=key)
            assert response.status_code == 200
        assert response.headers["idempotency-replayed"] == "true"
        assert (await e.client.post("/chat", json={"message": "x"})).headers["ratelimit-remaining"] == "1"


async def test_each_item_of_a_list_counts(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=THREE) as e:
        response = await e.client.post("/chat/async", json={"items": [{"message": str(n)} for n in range(5)]})
        assert response.status_code == 202
        tasks = response.json()["tasks"]
        assert ["task_id" in task for task in tasks] == [True, True, True, False, False]
        assert {task["problem"]["code"] for task in tasks[3:]} == {"rate_limited"}
        refused = await e.client.post("/chat/async", json={"items": [{"message": "x"}]})
        check(refused, 429, "rate_limited")
        assert 60 <= int(refused.headers["retry-after"]) <= 61


async def test_run_frames_count_and_a_refused_one_ends_nothing(edge: Any) -> None:
    rules = LimitRules(requests=1, window=60.0, per=("key",))
    async with edge(answers(), principal=ANN, rules=rules) as e, talking(e.app) as talk:
        await talk.say("run", message="x", ref="one")
        assert (await talk.hear())["ref"] == "one"
        await talk.hear_all()
        await talk.say("run", message="x", ref="two")
        assert (await talk.refused("rate_limited"))["ref"] == "two"
        await talk.say("ping", ref="three")
        assert (await talk.hear())["ref"] == "three"


async def test_users_and_keys_count_apart(edge: Any, database: str) -> None:
    limiter = LocalLimiter()
    rules = LimitRules(requests=2, window=60.0, per=("user",))
    async with edge(answers(), principal=BACKEND, rules=rules, limiter=limiter) as e:
        for user in ("ann", "ann", "bob", "bob"):
            assert (await e.client.post("/chat", json={"message": "x", "user_id": user})).status_code == 200
        check(await e.client.post("/chat", json={"message": "x", "user_id": "ann"}), 429, "rate_limited")
        assert "ratelimit-limit" not in (await e.client.post("/chat", json={"message": "x"})).headers
    async with edge(answers(), principal=ANN, rules=rules, limiter=limiter) as e:
        check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")
    async with edge(answers(), principal=BOB, rules=THREE, limiter=limiter) as e:
        assert (await e.client.post("/chat", json={"message": "x"})).headers["ratelimit-remaining"] == "0"


async def test_nobody_uses_up_the_limits_of_a_user_that_it_may_not_name(edge: Any) -> None:
    mallory = Principal(tenant="acme", user="mallory", actor="key:m", scopes=frozenset({"runs"}))
    limiter = LocalLimiter(clock=Clock())
    items = [{"custom_id": "1", "input": "x"}]
    async with edge(answers(), react(), tagger(), principal=mallory, rules=THREE, limiter=limiter) as e:
        for path, body in (
            ("/chat", {"message": "x"}), ("/v1/runs", {"agent": "helper", "input": "x"}), ("/chat/async", {"message": "x"}),
            ("/v1/batches", {"agent": "tagger", "items": items}),
        ):  # fmt: skip
            refused = await e.client.post(path, json=body | {"user_id": "bob"})
            check(refused, 403, "forbidden")
        async with talking(e.app) as talk:
            await talk.say("run", message="x", user_id="bob")
            await talk.refused("forbidden")
    async with edge(answers(), principal=BOB, rules=THREE, limiter=limiter) as e:
        response = await e.client.post("/chat", json={"message": "x"})
        assert response.headers["ratelimit-remaining"] == "2"
        assert response.status_code == 200


async def test_a_tenant_and_a_process_may_have_limits_of_their_own(edge: Any) -> None:
    limiter = LocalLimiter(clock=Clock())
    rules = LimitRules(requests=2, window=60.0, per=("tenant",))
    async with edge(answers(), principal=ANN, rules=rules, limiter=limiter) as e:
        await e.ask()
    async with edge(answers(), principal=BOB, rules=rules, limiter=limiter) as e:
        await e.ask()
        problem = check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")
        assert problem["detail"].startswith("This tenant may start 2 runs in 60 s")
    other = Principal(tenant="other", actor="key:three", scopes=SCOPES)
    async with edge(
        answers(), principal=other, rules=LimitRules(requests=9, per=("tenant",), per_second=2), limiter=limiter
    ) as e:
        await e.ask()
        await e.ask()
        refused = await e.client.post("/chat", json={"message": "x"})
        check(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] in ("1", "2")


async def test_who_asks_a_service_without_keys_has_no_limits(edge: Any) -> None:
    async with edge(
        answers(), principal=ANONYMOUS, rules=LimitRules(requests=1, per=("user", "key", "tenant"), per_second=1)
    ) as e:
        for _ in range(5):
            response = await e.client.post("/chat", json={"message": "x"})
            assert response.status_code == 200
        assert "ratelimit-limit" not in response.headers


async def test_a_stream_tells_too(served: Any) -> None:
    async with (
        served(answers(), principal=ANN, rules=THREE) as (_, client),
        client.stream("POST", "/chat/stream", json={"message": "x"}) as stream,
    ):
        assert stream.headers["ratelimit-remaining"] == "2"


class Counting:
    """A store of which every call is counted; it is away for all but reads of what there is."""

    def __init__(self, store: Any, calls: list[str]) -> None:
        self._store, self._calls = store, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def counted(*arguments: Any, **more: Any) -> Any:
            if name not in ("claim", "recover", "heads", "save_agent", "queue"):
                self._calls.append(name)
            return await found(*arguments, **more)

        return counted


async def test_a_refusal_asks_no_database_and_reads_no_body(edge: Any) -> None:
    calls: list[str] = []
    async with edge(answers(), principal=ANN, rules=THREE, through=lambda store: Counting(store, calls)) as e:
        for _ in range(3):
            await e.ask()
        await asyncio.gather(*(e.client.get("/v1/runs") for _ in range(1)))
        calls.clear()
        for _ in range(20):
            check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")
            check(await e.client.post("/chat", content=b"\xff not read"), 429, "rate_limited")
            check(await e.client.post("/v1/batches", content=b"\xff not read"), 429, "rate_limited")
        assert calls == []


async def test_what_counted_and_came_to_nothing_says_what_is_left(edge: Any) -> None:
    async with edge(answers(), principal=ANN, rules=THREE) as e:
        for left in ("2", "1"):
            nobody = await e.client.post("/agents/nobody", json={"input": "x"})
            check(nobody, 404, "not_found")
            assert nobody.headers["ratelimit-remaining"] == left


async def test_a_key_lets_nobody_past_the_refusal_for_long(edge: Any) -> None:
    """So many repetitions are looked up, whoever asks; then a key is no reason to read the body."""
    calls: list[str] = []
    async with edge(answers(), principal=ANN, rules=THREE, through=lambda store: Counting(store, calls)) as e:
        first = await e.client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "first"})
        for _ in range(2):
            await e.ask()
        for _ in range(2):
            again = await e.client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "first"})
            assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
            assert again.json()["run_id"] == first.json()["run_id"]
        for number in range(REPEATS - 2):
            new = {"Idempotency-Key": f"new{number}"}
            check(await e.client.post("/chat", json={"message": "x"}, headers=new), 429, "rate_limited")
        assert calls
        calls.clear()
        for number in range(20):
            for path in ("/chat", "/v1/batches"):
                key = {"Idempotency-Key": f"{path} {number}".replace(" ", "")}
                refused = await e.client.post(path, content=b"\xff not read", headers=key)
                check(refused, 429, "rate_limited")
                assert int(refused.headers["retry-after"]) >= 60
        assert calls == []


async def test_replicas_count_together(edge: Any, redis: str) -> None:
    async with open_live(redis) as one, open_live(redis) as two:
        limiters = [RedisLimiter(link=live.link, near=LocalLimiter()) for live in (one, two)]
        async with (
            edge(answers(), principal=ANN, rules=THREE, limiter=limiters[0]) as a,
            edge(answers(), principal=ANN, rules=THREE, limiter=limiters[1]) as b,
        ):
            found = [await e.client.post("/chat", json={"message": "x"}) for e in (a, b, a, b, a, b)]
            assert [response.status_code for response in found] == [200, 200, 200, 429, 429, 429]
            for response in found[3:]:
                assert 60 <= int(response.headers["retry-after"]) <= 61
            replay = await a.client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "k"})
            check(replay, 429, "rate_limited")


async def test_without_its_redis_a_process_goes_on_with_what_it_counted(edge: Any, own_redis: Any) -> None:
    async with open_live(own_redis.url, retry=0.1) as live:
        limiter = RedisLimiter(link=live.link, near=LocalLimiter())
        async with edge(answers(), principal=ANN, rules=THREE, limiter=limiter) as e:
            await e.ask()
            own_redis.kill()
            await e.ask()
            assert not live.link.there()
            await e.ask()
            check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")
            own_redis.start()
            await live.link.back()
            check(await e.client.post("/chat", json={"message": "x"}), 429, "rate_limited")


async def test_a_database_that_is_away_is_said_as_before(edge: Any) -> None:
    class Away(Counting):
        def __getattr__(self, name: str) -> Any:
            if name == "start":
                raise DatabaseUnavailable("away")
            return super().__getattr__(name)

    async with edge(answers(), react(), principal=ANN, rules=THREE, through=lambda store: Away(store, [])) as e:
        check(await e.client.post("/chat", json={"message": "x"}), 503, "not_ready")


async def test_a_full_queue_is_refused_and_counted(edge: Any) -> None:
    gate = asyncio.Event()
    admission = Admission(queue_max=2)
    async with edge(ScriptedProvider([gate, *says("ok")], *[says("ok")] * 5), concurrency=1, admission=admission) as e:
        body = {"agent": "helper", "input": "x", "background": True}
        runs = [(await e.client.post("/v1/runs", json=body)).json() for _ in range(3)]
        refused = await e.client.post("/v1/runs", json=body)
        check(refused, 429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        listed = await e.client.post("/chat/async", json={"items": [{"message": "x"}, {"message": "y"}]})
        check(listed, 429, "queue_full")
        gate.set()
        for run in runs:
            await e.became(run["id"], "succeeded")
        assert (await e.client.post("/v1/runs", json=body)).status_code == 202
