"""A service of this machine that needs no key, and pages of other sites in a browser of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.api.here import is_here
from app.cli.serve import keyless_of
from app.settings.options import Server
from tests.api.keyed import make_key
from tests.api.problems import check
from tests.api.sockets import talking
from tests.scripted import ScriptedProvider, says

HERE = (
    "localhost",
    "localhost:8000",
    "LOCALHOST:8000",
    "localhost.",
    "127.0.0.1:7918",
    "127.9.8.7",
    "[::1]:80",
    "a.localhost",
)
ELSEWHERE = (
    "evil.example",
    "evil.example:7918",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example@localhost",
    "a:b@127.0.0.1:80",
    "@localhost",
    "10.0.0.7",
    "[::2]",
    "[",
    "",
)
PAGE = "https://pages.example"


@pytest.mark.parametrize("host", HERE)
def test_names_of_this_machine(host: str) -> None:
    assert is_here(f"//{host}")
    assert is_here(f"http://{host}")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_names(host: str) -> None:
    assert not is_here(f"//{host}")
    assert not is_here(f"http://{host}")
    assert not is_here("null")


async def test_a_name_that_was_made_to_lead_here_reaches_nothing(edge: Any) -> None:
    """DNS rebinding: to the browser the page and the service are one origin."""
    async with edge(ScriptedProvider(*[says("ok")] * 5), keyless="here") as e:
        for headers in (
            {"Host": "evil.example:7918", "Origin": "http://evil.example:7918"},
            {"Host": "evil.example"},
            {"Host": "localhost", "Origin": "http://evil.example"},
            {"Host": "127.0.0.1:7918", "Origin": "null"},
        ):
            for method, path in (("POST", "/chat"), ("GET", "/v1/audit"), ("PUT", "/v1/controls/agent/helper")):
                refused = await e.client.request(method, path, json={"message": "x"}, headers=headers)
                check(refused, 403, "forbidden")
        assert not e.provider.requests
        for headers in (
            {"Host": "localhost"},
            {"Host": "127.0.0.1:7918", "Origin": "http://127.0.0.1:7918"},
            {"Host": "[::1]:1", "Origin": "http://app.localhost:3000"},
        ):
            answer = await e.client.post("/chat", json={"message": "x"}, headers=headers)
            assert answer.status_code == 200, answer.text
        assert (await e.client.get("/healthz")).status_code == 200


async def test_what_is_open_to_everybody_is_for_this_machine_only_while_nobody_needs_a_key(
    edge: Any, database: str
) -> None:
    evil = {"Host": "evil.example:7918", "Origin": "http://evil.example:7918"}
    closed, well = ("/metrics", "/docs", "/openapi.json"), ("/health", "/healthz", "/readiness")
    async with edge(ScriptedProvider(), keyless="here") as e:
        for path in closed:
            check(await e.client.get(path, headers=evil), 403, "forbidden")
            assert (await e.client.get(path, headers={"Host": "localhost:1"})).status_code == 200, path
        for path in well:
            assert (await e.client.get(path, headers=evil)).status_code == 200
    await make_key(database)
    async with edge(ScriptedProvider(), keyless="here") as e:
        for path in (*closed, *well):
            assert (await e.client.get(path, headers=evil)).status_code == 200


async def test_a_socket_too(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok")), keyless="here") as e:
        evil = {"Host": "evil.example", "Origin": "http://evil.example"}
        async with talking(e.app, headers=evil) as talk:
            await talk.say("run", message="x")
            await talk.refused("forbidden")
            await talk.say("auth", token="anything")
            await talk.refused("forbidden")
        async with talking(e.app) as talk:
            await talk.say("run", message="x")
            assert (await talk.hear_all())[-1]["event"] == "run.finished"


async def test_listed_origins_may_call_and_keys_are_asked_by_any_name(edge: Any, database: str) -> None:
    async with edge(ScriptedProvider(), keyless="here", front={"cors_origins": [PAGE]}) as e:
        headers = {"Host": "localhost", "Origin": PAGE}
        assert (await e.client.get("/v1/runs", headers=headers)).status_code == 200
        check(await e.client.get("/v1/runs", headers={"Host": "pages.example", "Origin": PAGE}), 403, "forbidden")
    async with edge(ScriptedProvider(says("ok")), keyless="here", front={"cors_origins": ["*"]}) as e:
        for origin in (PAGE, "null"):
            refused = await e.client.post(
                "/chat", json={"message": "x"}, headers={"Host": "localhost", "Origin": origin}
            )
            check(refused, 403, "forbidden")
            async with talking(e.app, origin=origin) as talk:
                await talk.say("run", message="x")
                await talk.refused("forbidden")
        assert not e.provider.requests
    _, key = await make_key(database)
    async with edge(ScriptedProvider(says("ok")), keyless="here", front={"cors_origins": ["*"]}) as e:
        headers = {"Authorization": f"Bearer {key}", "Host": "localhost", "Origin": PAGE}
        assert (await e.client.post("/chat", json={"message": "x"}, headers=headers)).status_code == 200
    async with edge(ScriptedProvider(), keyless="here") as e:
        headers = {"Authorization": f"Bearer {key}", "Host": "agents.example", "Origin": "https://agents.example"}
        assert (await e.client.get("/v1/runs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("address", "proxies", "root", "insecure", "said"),
    [
        ("127.0.0.1", (), "", False, "here"),
        ("::1", (), "", False, "here"),
        ("127.0.0.1", ("127.0.0.1",), "", False, "never"),
        ("127.0.0.1", (), "/agents", False, "never"),
        ("0.0.0.0", (), "", False, "never"),
        ("127.0.0.1", ("127.0.0.1",), "/agents", True, "until_keys"),
        ("0.0.0.0", (), "", True, "until_keys"),
    ],
)
def test_what_is_served_without_keys(
    address: str, proxies: Sequence[str], root: str, insecure: bool, said: str
) -> None:
    server = Server(trusted_proxies=tuple(proxies), root_path=root)
    assert keyless_of(address, server, insecure=insecure) == said
