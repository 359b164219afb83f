"""Behind proxies: whom the service believes, and where the world sees it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from app.api.proxies import BehindProxies, behind_proxies
from tests.scripted import ScriptedProvider, says

TRUSTED = ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7")


class Seen:
    """An application that remembers what it was asked for."""

    def __init__(self) -> None:
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 202, "headers": [(b"location", b"/v1/runs/r")]})
        await send({"type": "http.response.body", "body": b""})


async def asked(
    peer: str, headers: list[tuple[str, str]], *, path: str = "/chat", root_path: str = ""
) -> tuple[Any, Any]:
    seen, sent = Seen(), []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    app = BehindProxies(app=seen, trusted=[ipaddress.ip_network(network) for network in TRUSTED], root_path=root_path)
    scope = {
        "type": "http", "path": path, "raw_path": path.encode(), "scheme": "http", "client": (peer, 1),
        "headers": [(b"host", b"inside:8000"), *((name.lower().encode(), value.encode()) for name, value in headers)],
    }  # fmt: skip
    await app(scope, receive, send)
    return seen.scope, sent[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),  # the first one is what the client wrote itself
        ("10.1.1.1", ["6.6.6.6, 203.0.113.9, 10.2.2.2"], "203.0.113.9"),
        ("10.1.1.1", ["6.6.6.6", "203.0.113.9", "192.0.2.7"], "203.0.113.9"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.1.1.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("::ffff:10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8::5", ["2001:db9::1"], "2001:db9::1"),
        ("10.1.1.1", ["203.0.113.9, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9, <script>, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["203.0.113.9" + ", 10.2.2.2" * 10_000], "10.2.2.2"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),  # not a proxy of ours
        ("192.0.2.8", ["198.51.100.1"], "192.0.2.8"),
        ("", ["198.51.100.1"], ""),
    ],
)
async def test_the_client_is_the_last_one_that_no_proxy_of_ours_is(
    peer: str, forwarded: list[str], client: str
) -> None:
    scope, _ = await asked(peer, [("X-Forwarded-For", value) for value in forwarded])
    assert scope["client"][0] == client


async def test_scheme_and_host_are_believed_of_trusted_proxies_only() -> None:
    told = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "agents.example.com")]
    scope, _ = await asked("10.1.1.1", told)
    assert scope["scheme"] == "https"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"agents.example.com"]
    scope, _ = await asked("203.0.113.1", told)
    assert scope["scheme"] == "http"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"inside:8000"]
    scope, _ = await asked("10.1.1.1", [("X-Forwarded-Proto", "gopher")])
    assert scope["scheme"] == "http"


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/agents/chat", "/chat"),
        ("/chat", "/chat"),
        ("/agents", "/"),
        ("/agents/", "/"),
        ("/agentsx/chat", "/agentsx/chat"),
    ],
)
async def test_paths_come_with_the_root_and_without_it(path: str, inside: str) -> None:
    scope, start = await asked("203.0.113.1", [], path=path, root_path="/agents")
    assert (scope["path"], scope["raw_path"]) == (inside, inside.encode())
    assert dict(start["headers"])[b"location"] == b"/agents/v1/runs/r"


def test_without_proxies_nothing_is_wrapped() -> None:
    seen = Seen()
    assert behind_proxies(seen, trusted=(), root_path="") is seen


async def test_the_service_below_a_path(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"), says("ok")), front={"root_path": "/team/steady"}) as e:
        document = (await e.client.get("/team/steady/openapi.json")).json()
        assert [server["url"] for server in document["servers"]] == ["/team/steady"]
        assert (await e.client.get("/team/steady/docs")).status_code == 200
        for prefix in ("", "/team/steady"):
            begun = await e.client.post(f"{prefix}/chat/async", json={"message": "a"})
            assert begun.status_code == 202
            location = begun.headers["location"]
            assert location == f"/team/steady/v1/runs/{begun.json()['task_id']}"
            assert (await e.client.get(location)).status_code == 200
        counted = (await e.client.get("/team/steady/metrics")).text
        assert 'route="/v1/runs/{run_id}"' in counted
        assert (await e.client.get("/team/steady/nothing")).status_code == 404


async def test_tls_before_a_trusted_proxy_is_kept(edge: Any) -> None:
    https = {"X-Forwarded-Proto": "https"}
    async with edge(ScriptedProvider(), front={"trusted_proxies": ["127.0.0.0/8"]}) as e:
        assert (await e.client.get("/health", headers=https)).headers["strict-transport-security"] == "max-age=31536000"
        assert "strict-transport-security" not in (await e.client.get("/health")).headers
    async with edge(ScriptedProvider()) as e:
        assert "strict-transport-security" not in (await e.client.get("/health", headers=https)).headers
