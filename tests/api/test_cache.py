"""Cached answers as clients see them, dropping them over HTTP and from the command line, and filling the cache."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.commands import DONE, FAILED, USAGE, run
from app.domain.principals import Principal
from app.storage.redis.answers import RedisAnswers
from app.storage.redis.live import open_live
from tests.api.edge import Edge
from tests.redis_server import RedisServer
from tests.runs.test_cache import Echo, chatting
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def asked(e: Edge, question: str = "why?", **more: Any) -> bool:
    """Whether the answer was cached. What it brought is in the cache then."""
    cached: bool = (await e.ask(question, **more))["metadata"]["cached"]
    await until(lambda: not e.runs.answers._leads)
    return cached


async def test_every_way_to_ask_says_that_the_answer_is_cached(edge: Any) -> None:
    async with edge(ScriptedProvider(says("Because.")), chatting()) as e:
        assert not await asked(e)
        answer = (await e.client.post("/agent", json={"question": "why?"})).json()
        assert (answer["answer"], answer["cached"], answer["iterations"]) == ("Because.", True, 0)
        chat = await e.ask("why?")
        meta = chat["metadata"]
        assert (chat["response"], meta["cached"], meta["iterations"], meta["cost_usd"]) == ("Because.", True, 0, 0.0)
        assert set(meta["usage"].values()) == {0}
        named = (await e.client.post("/agents/chat", json={"input": "why?", "include_steps": True})).json()
        assert (named["result"], named["metadata"]["cached"], named["metadata"]["steps"]) == ("Because.", True, [])
        created = await e.client.post("/v1/runs", json={"agent": "chat", "input": "why?"})
        assert (created.status_code, created.json()["cached"], created.json()["output"]) == (201, True, "Because.")
        frames = await e.frames("POST", "/chat/stream", {"message": "why?"})
        assert [name for _, name, _ in frames] == ["start", "chunk", "done"]
        assert frames[1][2]["text"] == "Because."
        assert frames[2][2]["metadata"]["cached"] is True


async def test_answers_are_dropped_by_agent_prompt_and_tag(edge: Any) -> None:
    async with edge(Echo(), chatting(prompt="greeting@v2")) as e:

        async def dropped(**query: str) -> int:
            response = await e.client.delete("/v1/cache", params=query)
            assert response.status_code == 200, response.text
            found: int = response.json()["dropped"]
            return found

        selections: list[dict[str, str]] = [
            {"agent": "chat"}, {"prompt": "greeting"}, {"prompt": "greeting@v2"}, {"tag": "team"}, {"tag": "team:a"}, {},
            {"agent": "chat", "tag": "team"},
        ]  # fmt: skip
        for selection in selections:
            assert not await asked(e, tags={"team": "a"})
            assert (
                await dropped(agent="other") == await dropped(tag="team:b") == await dropped(prompt="greeting@v1") == 0
            )
            assert await asked(e)
            assert await dropped(**selection) == 1


@pytest.mark.parametrize("query", ["agnet=chat", "agent=", "tag=%00", "agent=chat&all=true"])
async def test_a_query_that_cannot_be_meant_drops_nothing(edge: Any, query: str) -> None:
    async with edge(Echo(), chatting()) as e:
        await asked(e)
        response = await e.client.delete(f"/v1/cache?{query}")
        assert (response.status_code, response.json()["code"]) == (422, "validation_error")
        assert await asked(e)


async def test_only_a_tenants_own_answers_are_dropped(edge: Any, redis: str) -> None:
    """Two tenants, each with a process of its own, share one database and one Redis."""
    async with open_live(redis) as live:
        far = RedisAnswers(link=live.link)
        async with (
            edge(Echo(), chatting(), far=far) as ours,
            edge(Echo(), chatting(), far=far, principal=Principal(tenant="acme")) as theirs,
        ):
            assert not await asked(ours)
            assert not await asked(theirs), "never another tenant's"
            assert (await ours.client.delete("/v1/cache")).json() == {"dropped": 1}
            assert await asked(theirs)
            assert not await asked(ours)


async def test_a_repeated_request_drops_once(edge: Any) -> None:
    async with edge(Echo(), chatting()) as e:
        await asked(e)
        headers = {"Idempotency-Key": "k"}
        assert (await e.client.delete("/v1/cache", headers=headers)).json() == {"dropped": 1}
        await asked(e)
        again = await e.client.delete("/v1/cache", headers=headers)
        assert (again.json(), again.headers["idempotency-replayed"]) == ({"dropped": 1}, "true")
        assert await asked(e)
        other = await e.client.delete("/v1/cache?agent=chat", headers=headers)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("speed", ["redis", "no redis"])
async def test_a_drop_reaches_the_memory_of_every_process(edge: Any, redis: str, speed: str) -> None:
    async with open_live(redis) as live:
        far = RedisAnswers(link=live.link) if speed == "redis" else None
        async with (
            edge(Echo(), chatting(), hinted=True, far=far) as one,
            edge(Echo(), chatting(), hinted=True, far=far) as two,
        ):
            await until(lambda: all(e.runs.feeds.hints._others for e in (one, two)))
            assert not await asked(one)
            assert await asked(two) is (speed == "redis")
            assert await asked(two)
            assert (await one.client.delete("/v1/cache", params={"agent": "chat"})).json() == {"dropped": 1}

            async def gone() -> bool:
                return len(two.runs.answers._near) == 0

            await until(gone, within=1.0)
            assert not await asked(two)


async def test_where_redis_is_away_a_drop_says_that_it_is_not_done(edge: Any, own_redis: RedisServer) -> None:
    async with open_live(own_redis.url, timeout=0.5, retry=0.1) as live:
        far = RedisAnswers(link=live.link)
        async with edge(Echo(), chatting(), far=far) as e:
            assert not await asked(e)
            own_redis.kill()
            response = await e.client.delete("/v1/cache")
            assert (response.status_code, response.json()["code"]) == (503, "not_ready")
            assert not await asked(e), "it is gone from memory"
            assert await asked(e)
            own_redis.start()
            await until(live.link.there)
            assert (await e.client.delete("/v1/cache")).status_code == 200
            assert not await asked(e)


async def cli(*arguments: str) -> int:
    return await asyncio.to_thread(run, ["cache", *arguments])


async def test_the_cache_is_warmed_and_emptied_from_the_command_line(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"message": "one"}, {"agent": "chat", "input": "two"}, {"agent": "chat", "input": {"n": 3}}, {"agent": "nobody", "input": "x"},
    ]  # fmt: skip
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    echo = Echo()
    async with served(echo, chatting()) as (e, client):
        url = ["--url", str(client.base_url)]
        assert await cli("warm", str(questions), *url, "--json") == FAILED
        said = capsys.readouterr()
        assert json.loads(said.out) == {"hit": 0, "miss": 3, "failed": 1}
        assert "line 4: There is no agent 'nobody'" in said.err
        questions.write_text("\n".join(json.dumps(line) for line in lines[:3]))
        assert await cli("warm", str(questions), *url, "--concurrency", "1") == DONE
        assert capsys.readouterr().out == "3 answers were cached already, 0 were asked for, 0 failed\n"
        assert echo.asked.total() == 3
        assert await asked(e, "two")
        assert await cli("invalidate", "--agent", "other", *url, "--json") == DONE
        assert json.loads(capsys.readouterr().out) == {"dropped": 0}
        assert await cli("invalidate", "--all", *url) == DONE
        assert capsys.readouterr().out == "dropped 3 cached answers\n"
        assert not await asked(e, "two")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["invalidate"], USAGE, "or else --all"),
        (["invalidate", "--all", "--agent", "x"], USAGE, "or else --all"),
        (["invalidate", "--all", "--url", "http://127.0.0.1:9"], FAILED, "cannot reach http://127.0.0.1:9"),
        (["invalidate", "--all", "--url", "ftp://x"], FAILED, "ftp://x"),
        (["warm", "no-such-file", "--url", "http://127.0.0.1:9"], FAILED, "no-such-file: No such file"),
        (["warm"], USAGE, "FILE"),
        ([], USAGE, "ACTION"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], code: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cache", *arguments]) == code
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ['{"message": 1}', "nonsense", "{}", '{"message": "a", "input": "b"}', '{"mesage": "a"}', '{"agent": "chat"}'],
)
def test_a_line_that_is_no_question_is_named(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f").write_text('{"message": "fine"}\n' + line)
    assert run(["cache", "warm", str(tmp_path / "f"), "--url", "http://127.0.0.1:9"]) == FAILED
    assert "f:2: " in capsys.readouterr().err
