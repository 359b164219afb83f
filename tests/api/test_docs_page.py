"""The page at /docs: what it may load, and that it shows whatever the API describes."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from tests.scripted import ScriptedProvider


async def test_the_page_is_html_under_a_policy_that_lets_nothing_else_in(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        page = await e.client.get("/docs")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        directives = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert directives["default-src"] == "'none'"
        assert directives["connect-src"] == "'self'"
        assert all("http" not in sources and "*" not in sources for sources in directives.values())
        assert "x-request-id" in page.headers
        [script] = re.findall(r"<script>(.*?)</script>", page.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert directives["script-src"] == f"'sha256-{digest}'"
        assert not re.findall(r"<[^>]*\son[a-z]+=|javascript:", page.text.replace(script, ""))


async def test_the_page_needs_nothing_from_anywhere_else(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        text = (await e.client.get("/docs")).text
        assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)
        assert not re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=", text)
        assert not re.findall(r"@import|url\(", text.partition("</style>")[0])
        assert re.findall(r"<link[^>]*>", text) == ['<link rel="icon" href="data:,">']
        assert text.count("fetch(") == 2  # the description, and what the reader sends
        assert 'fetch("openapi.json")' in text  # relative: also right below a prefix


async def test_the_page_has_no_list_of_operations_of_its_own_and_writes_no_html(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        text = (await e.client.get("/docs")).text
        document = (await e.client.get("/openapi.json")).json()
        operations = [
            (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
        ]
        assert len(operations) >= 20
        for path, method, operation in operations:
            assert path == "/docs" or f'"{path}"' not in text
            assert operation["operationId"] not in re.findall(r'"([a-z_]+_[a-z_]+)"', text)
            assert method in re.findall(r'"([a-z]+)"', re.findall(r"const METHODS = (.*)", text)[0])
            assert operation["tags"]
            assert operation["summary"]
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


async def test_the_page_sends_a_key_and_keeps_none(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        text = (await e.client.get("/docs")).text
        assert 'headers["X-API-Key"] = key' in text
        assert not re.findall(r"localStorage|sessionStorage|document\.cookie", text)


async def test_every_reference_of_the_description_leads_somewhere(edge: Any) -> None:
    """The page resolves them without a net."""
    async with edge(ScriptedProvider()) as e:
        response = await e.client.get("/openapi.json")
        document = response.json()
        for reference in set(re.findall(r'"\$ref":"(#/[^"]+)"', response.text)):
            node = document
            for key in reference[2:].split("/"):
                node = node[key]
            assert node


async def test_unknown_paths_beside_it_are_problems_and_not_pages(edge: Any) -> None:
    async with edge(ScriptedProvider()) as e:
        for path in ("/nothing", "/docs/nothing", "/"):
            response = await e.client.get(path)
            assert response.status_code == 404
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["code"] == "not_found"
