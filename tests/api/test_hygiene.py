"""What every answer has, and what the real server does with requests that no client of good will sends."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing, suppress
from typing import Any

import msgspec

from app.api.cors import Origins
from app.api.hygiene import HttpEdge
from tests.api.edge import listening
from tests.scripted import ScriptedProvider, says

BODY = b'{"message":"a"}'
POST = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
PLAIN = {"nosniff": "x-content-type-options", "no-referrer": "referrer-policy", "no-store": "cache-control"}
DOCUMENTED = {400, 404, 405, 408, 413, 414, 415, 422, 431}


async def exchange(port: int, *parts: bytes, seconds: float = 20.0) -> list[tuple[int, dict[str, str], bytes]]:
    """Every response until the server closes the connection or has answered so many requests as were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    try:
        for part in parts:
            writer.write(part)
        async with asyncio.timeout(seconds):
            while (head := await _head(reader)) is not None:
                lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                status = int(lines[0].split(" ")[1])
                if status == 100:
                    writer.write(BODY)
                    continue
                answers.append((status, headers, await reader.readexactly(int(headers.get("content-length", 0)))))
                if headers.get("connection") != "close" and len(answers) == max(
                    1, sum(p.count(b" HTTP/1.1\r\n") for p in parts)
                ):
                    break
    finally:
        writer.close()
    return answers


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_every_answer_has_the_headers_of_safety(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"), says("ok"))) as e:
        for method, path, body in (
            ("GET", "/health", None), ("GET", "/metrics", None), ("GET", "/agents", None), ("GET", "/nothing", None),
            ("PUT", "/chat", None), ("POST", "/chat", {"message": "a"}), ("POST", "/chat", {}), ("GET", "/openapi.json", None),
            ("OPTIONS", "/chat", None), ("HEAD", "/health", None),
        ):  # fmt: skip
            response = await e.client.request(method, path, json=body)
            for value, name in PLAIN.items():
                assert response.headers.get_list(name) == [value], (method, path)
            assert response.headers.get_list("content-security-policy") == [
                "default-src 'none'; frame-ancestors 'none'"
            ]
            assert response.headers["server"] == ""
        stream = await e.client.post("/chat/stream", json={"message": "a"})
        assert stream.headers.get_list("cache-control") == ["no-cache"]
        assert stream.headers["x-content-type-options"] == "nosniff"
        page = await e.client.get("/docs")
        assert len(page.headers.get_list("content-security-policy")) == 1
        assert "connect-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"


async def test_the_server_does_not_say_what_it_is(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e, listening(e.app) as port:
        for request in (
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", POST + b"Content-Length: 15\r\n\r\n" + BODY,
            b"nonsense\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n",
        ):  # fmt: skip
            for _, headers, _ in await exchange(port, request):
                assert not headers.get("server", "").strip()
                assert not {"x-powered-by", "via"} & headers.keys()


BROKEN = {
    "two lengths that differ": POST + b"Content-Length: 15\r\nContent-Length: 16\r\n\r\n" + BODY,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length with a sign": POST + b"Content-Length: +15\r\n\r\n" + BODY,
    "a length beyond all numbers": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "a length in hex": POST + b"Content-Length: 0xf\r\n\r\n" + BODY,
    "chunks that are none": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk beyond all numbers": POST
    + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\nf\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunked, but not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\nf\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 15\r\n\r\n" + BODY,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "a thousand headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X-%d: a\r\n" % n for n in range(1000))
    + b"\r\n",
    "half a megabyte of headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 500_000 + b"\r\n\r\n",
    "a URL of 66 kB": b"GET /healthz?" + b"a" * 66_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a whole body, but not all of it": POST + b"Content-Length: 99\r\n\r\n" + BODY,
}


async def test_broken_requests_are_refused_and_their_connection_ends(edge: Any) -> None:
    async with edge(ScriptedProvider(), front={"read_timeout": 0.3}) as e, listening(e.app, read_timeout=0.3) as port:
        for name, request in BROKEN.items():
            answers = await exchange(
                port, request + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * (b"99" not in request)
            )
            assert len(answers) <= 1, (name, answers)
            assert all(status in DOCUMENTED for status, _, _ in answers), (name, answers)
        assert e.provider.requests == []
        assert "/smuggled" not in str(e.provider.requests)
        assert (await exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[0][0] == 200


async def test_a_request_with_both_framings_ends_its_connection(edge: Any) -> None:
    both = POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + BODY + b"\r\n0\r\n\r\n"
    async with edge(ScriptedProvider(says("ok"), says("ok"))) as e, listening(e.app) as port:
        answers = await exchange(port, both + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [(status, headers["connection"]) for status, headers, _ in answers] == [(200, "close")]


async def test_what_is_unusual_but_allowed(edge: Any) -> None:
    chunked = (
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    )
    async with edge(ScriptedProvider(*[says("ok")] * 5)) as e, listening(e.app) as port:
        for request in (
            POST + b"Content-Length: 15\r\nContent-Length: 15\r\n\r\n" + BODY,
            POST + b"Content-Length: 15\r\nExpect: 100-continue\r\n\r\n",
            chunked,
            b"GET http://elsewhere/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /healthz HTTP/1.0\r\n\r\n",
        ):
            assert [status for status, _, _ in await exchange(port, request)] == [200], request
        assert [a[0] for a in await exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)] == [200] * 3


async def test_a_body_that_does_not_come_is_not_waited_for(edge: Any) -> None:
    async with edge(ScriptedProvider(), front={"read_timeout": 0.2}) as e, listening(e.app) as port:
        for path in (b"/chat", b"/chat/stream", b"/v1/runs", b"/v1/batches"):
            request = POST.replace(b"/chat", path) + b"Content-Length: 15\r\n\r\n" + BODY[:7]
            [(status, headers, body)] = await exchange(port, request)
            problem = msgspec.json.decode(body)
            assert (status, problem["code"], headers["connection"]) == (408, "request_timeout", "close")
            assert problem["request_id"] == headers["x-request-id"]


async def test_connections_that_say_nothing_end(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e, listening(e.app, read_timeout=0.2) as port:
        for begun in (b"", b"P", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "):
            assert await exchange(port, begun) == []
        with closing(socket.create_connection(("127.0.0.1", port))) as dripping:
            until = time.monotonic() + 20
            dripping.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            with suppress(OSError):
                while time.monotonic() < until:
                    await asyncio.sleep(0.02)
                    dripping.sendall(b"X-A: a\r\n")
            assert time.monotonic() < until


async def test_a_body_that_keeps_coming_has_more_time() -> None:
    """The clock is the loop's: each piece of 1,000 bytes adds a tenth of a second, which is what it is late."""
    loop = asyncio.get_running_loop()
    taken: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["more_body"]:
            taken.append(len(message["body"]))
        taken.append("whole")

    async def receive() -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"a" * 1000, "more_body": len(taken) < 20}

    async def send(_: Any) -> None:
        raise AssertionError

    began = loop.time()
    edge = HttpEdge(app=app, origins=Origins(), read_timeout=0.1)
    scope = {"type": "http", "method": "POST", "path": "/", "http_version": "1.1", "headers": [(b"host", b"x")]}
    await edge(scope, receive, send)
    assert taken[-1] == "whole"
    assert loop.time() - began > 0.1


async def test_odd_ids_and_traces_are_replaced(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        for odd in ("", " ", "a b", "x" * 129, "a\tb", "<script>", "é", "${jndi:ldap://x}", "a,b", "../../x"):
            response = await e.client.get("/health", headers=[("X-Request-Id", odd.encode())])
            assert response.headers["x-request-id"] != odd
            assert len(response.headers["x-request-id"]) == 32
        for odd in ("", "00", "zz-1-2-3", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-" + "g" * 32 + "-" + "1" * 16 + "-01", "x" * 10_000, "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"):  # fmt: skip
            for headers in ({"traceparent": odd}, {"traceparent": odd, "tracestate": "=,=" * 500}):
                assert (await e.client.get("/agents", headers=headers)).status_code == 200


async def test_a_refused_handshake_is_a_whole_problem(edge: Any) -> None:
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: http://evil.example\r\nX-Request-Id: mine\r\n\r\n"
    )
    async with edge(ScriptedProvider()) as e, listening(e.app) as port:
        for path, status, code in (("/ws", 403, "forbidden"), ("/nothing", 404, "not_found")):
            ((told, headers, body),) = await exchange(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}".encode())
            problem = msgspec.json.decode(body)
            assert (told, problem["code"], problem["request_id"]) == (status, code, "mine")
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-request-id"] == "mine"
            assert headers["server"] == ""
            assert headers["x-content-type-options"] == "nosniff"


async def test_health_answers_head(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e, listening(e.app) as port:
        for path in ("/health", "/healthz", "/readiness"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert answer.endswith(b"\r\n\r\n"), "a body"
