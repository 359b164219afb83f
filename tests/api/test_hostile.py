"""Bodies that mean harm, against every route of the description that takes one: each is refused as the description says."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.api.examples import REQUESTS
from tests.api.edge import Edge
from tests.api.fuzzing import AGENTS, furnish, provider
from tests.api.test_openapi import DOCUMENT
from tests.scripted import ScriptedProvider

JSON = {"Content-Type": "application/json"}
DEEP = 50_000
LONG = "x" * 90_000

NUMBERS = (
    "1e400", "-1e400", "1e-400", "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000, "1e" + "9" * 300, "NaN", "Infinity", "-Infinity",
    "0x10", "01", "+1", "1_000", ".5", "5.", "-", "--1", "1e", "9007199254740993", "18446744073709551616", "-0", "-0.0", "٣",
)  # fmt: skip
TEXTS = (
    r'"\ud800"', r'"\udfff"', r'"\ud83d\ud83d"', r'"\u0000"', '"\x00"', '"\x1b[2J"', '"\\"', '"\\x41"', '"', '"\u202e\u2066"',
    '"\ufeff"', '"' + LONG + '"', '"../../../etc/passwd"', '"%00"', '"${jndi:ldap://x}"', '"{{7*7}}"', "\"'; DROP TABLE runs;--\"",
    '"<script>alert(1)</script>"', '"\\u2028\\u2029"', '"\r\nSet-Cookie: a=b"', '"\\r\\nSet-Cookie: a=b"', '"\U0010ffff"', r'"\uffff\ufffe"',
)  # fmt: skip
SHAPES = (
    "[" * DEEP, "[" * DEEP + "]" * DEEP, '{"a":' * DEEP, '{"a":' * 200 + "1" + "}" * 200, "[" * 101 + "]" * 101, "[]", "{}", "null",
    "true", "0", '""', "[[]]", '[{"a":1}]', '{"__proto__":{"a":1}}', '{"constructor":{"prototype":{}}}', '{"a":1,"a":2}',
    "{" + ",".join(f'"k{n}":1' for n in range(5000)) + "}", '{"' + LONG + '":1}', "[" + "0," * 40_000 + "0]", "[" + "[]," * 30_000 + "[]]",
    '{"":""}', '{"$ref":"#"}', "{'a':1}", "{a:1}", '{"a":1,}', "[1,]", '{"a" 1}', "{", "}", "[", "]", "nul", "//", "/*c*/{}", "{}{}",
    "{} x", " ", "\t\n", "<a/>", "a=b", "%7B%7D", "!!python/object:os.system",
)  # fmt: skip


def wholes() -> Iterator[bytes]:
    """Bodies whatever the route."""
    yield from (text.encode("utf-8", "surrogatepass") for text in (*SHAPES, *NUMBERS, *TEXTS))
    yield from (
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\x80",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        bytes(range(256)),
    )
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7", "utf-8-sig"):
        yield '{"message":"a","input":1}'.encode(encoding)
    yield gzip.compress(b'{"message":"a"}')
    yield b"\x1f\x8b" + b"\x00" * 50


def poisoned(example: dict[str, Any]) -> Iterator[bytes]:
    """The route's own example with one value after the other replaced, its keys twice, and one more."""
    for name in example:
        mark = json.dumps(example | {name: "\x7fMARK"})
        for value in (*NUMBERS, *TEXTS, *SHAPES[3:20]):
            yield mark.replace('"\\u007fMARK"', value).replace('"\x7fMARK"', value).encode("utf-8", "surrogatepass")
        text = json.dumps(example)
        yield text[:-1].encode() + b"," + json.dumps({name: None}).encode()[1:]
    for name in ("__class__", "id", "tenant", "principal", "\x00", "\u202e", "x" * 10_000):
        yield json.dumps(example | {name: 1}).encode()


def routes() -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation that takes a body: its method, its path, its description."""
    return [
        (method, path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method not in ("get", "head")
    ]


class Target:
    """One route of a furnished process. Says whether an answer is one of those that are described."""

    def __init__(self, e: Edge, known: dict[str, str], method: str, path: str, operation: dict[str, Any]) -> None:
        self._e = e
        self._known = known
        self._method = method
        self._path = path
        self.operation = operation

    async def send(self, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
        """The status of the answer and what is wrong with it, after a check of all that every answer has."""
        path = self._path.format(**self._known)
        response = await self._e.client.request(self._method, path, content=body, headers=headers)
        status = response.status_code
        wrong = None
        if str(status) not in self.operation["responses"]:
            wrong = f"{self._method} {self._path}: {status} for {body[:80]!r}: {response.text[:200]}"
        elif status >= 500:
            wrong = f"{self._method} {self._path}: fault {status} for {body[:80]!r}: {response.text[:200]}"
        elif status >= 400:
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert (problem["status"], bool(problem["code"])) == (status, True)
            assert len(response.content) < 20_000  # what was sent is not sent back
        return status, wrong


@pytest.mark.parametrize(
    ("method", "path", "operation"), routes(), ids=lambda value: value if isinstance(value, str) else ""
)
async def test_hostile_bodies(edge: Any, method: str, path: str, operation: dict[str, Any]) -> None:
    async with edge(provider(), *AGENTS) as e:
        target = Target(e, await furnish(e), method, path, operation)
        example = REQUESTS.get(operation["operationId"], {})
        wrong: list[str] = []
        for body in (*wholes(), *poisoned(example)):
            status, why = await target.send(body, JSON)
            if why:
                wrong.append(why)
            if (
                "requestBody" in operation
                and operation["requestBody"].get("required", True)
                and body[:1] not in (b"{",)
            ):
                assert status >= 400, body[:80]
        for media_type in ("", "text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-16", "*/*", "application/json\x01"[:16], ";", "a/b/c", "application/x-www-form-urlencoded"):  # fmt: skip
            for body in (b"", b'{"a":1}', b"a=b", b"\xff"):
                why = (await target.send(body, {"Content-Type": media_type}))[1]
                wrong += [why] if why else []
        assert not wrong, "\n".join(wrong[:20])


async def test_the_service_is_well_after_all_of_it(edge: Any) -> None:
    async with edge(ScriptedProvider(), max_body=10_000) as e:
        for method, path, _ in routes():
            response = await e.client.request(method, path, content=b"[" * 20_000, headers=JSON)
            assert response.status_code in (400, 404, 413, 422), (path, response.text)
        assert (await e.client.get("/health")).status_code == 200
