"""What servers send back: types, charsets, sizes, and bodies without end."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from app.tools.http_fetch import MAX_BODY, MAX_TEXT, FetchError
from tests.tools.web import Web, answer


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "text/plain",
        "text/csv",
        "application/json",
        "application/ld+json",
        "application/xml",
        "application/rss+xml",
    ],
)
async def test_types_that_can_be_read(web: Web, kind: str) -> None:
    web.pages["/"] = answer(b"data", kind=kind.upper())
    assert (await web.fetcher().fetch("http://example.com/")).content_type == kind


@pytest.mark.parametrize(
    "kind", ["", "image/png", "application/pdf", "application/octet-stream", "application/jsonp", "textual/x"]
)
async def test_types_that_cannot(web: Web, kind: str) -> None:
    web.pages["/"] = answer(b"data", kind=kind)
    with pytest.raises(FetchError, match=f"the server sent {kind or 'no content type'}"):
        await web.fetcher().fetch("http://example.com/")


async def test_charsets(web: Web) -> None:
    for charset, body, text in (
        ("iso-8859-1", b"\xe9", "é"),
        ('"windows-1252"', b"\x80", "€"),
        ("shift_jis", "日本".encode("shift_jis"), "日本"),
        ("no-such", b"\xc3\xa9", "é"),
        ("rot13", b"abc", "abc"),
        ("punycode", b"abc-", "abc-"),
        ("utf-8", b"a\x00\xff", "a\ufffd\ufffd"),
    ):
        web.pages["/"] = answer(body, kind=f"text/plain; charset={charset}")
        assert (await web.fetcher().fetch("http://example.com/")).text == text


async def test_html_becomes_text(web: Web) -> None:
    html = (
        "<!DOCTYPE html><html><head><title>Ti&amp;tle</title><style>p{}</style><SCRIPT>if (a<b) evil()</SCRIPT ></head>"
        "<body><!-- <p>hidden --><h1>Head</h1><p>One <b>bo</b>ld\n <a href='x'>link</a>, 3 < 4 &lt;5&gt;</p><ul><li>a</li><li>b</li></ul>"
        "<script>never closed <p>x</p>"
    )
    web.pages["/"] = answer(html.encode(), kind="text/html")
    page = await web.fetcher().fetch("http://example.com/")
    assert page.text == "Ti&tle\nHead\nOne bold\nlink, 3 < 4 <5>\na\nb"


@pytest.mark.parametrize("piece", ["<", "<!--", "<a ", "<script>", "</", "&", "<a b='", "<!", "&#x", " <b> "])
async def test_hostile_html_costs_linear_time(web: Web, piece: str) -> None:
    web.pages["/"] = answer((piece * (MAX_BODY // len(piece))).encode(), kind="text/html")
    assert not (await web.fetcher(time_limit=60).fetch("http://example.com/")).text.startswith("<script")


async def test_gzip(web: Web) -> None:
    web.pages["/"] = answer(gzip.compress(b"small"), Content_Encoding="gzip")
    assert (await web.fetcher().fetch("http://example.com/")).text == "small"
    for broken, reason in ((b"nonsense", "broken"), (gzip.compress(b"x" * 999)[:-9], "cut off")):
        web.pages["/"] = answer(broken, Content_Encoding="gzip")
        with pytest.raises(FetchError, match=reason):
            await web.fetcher().fetch("http://example.com/")
    web.pages["/"] = answer(zlib.compress(b"x"), Content_Encoding="deflate")
    with pytest.raises(FetchError, match="deflate, which was not asked for"):
        await web.fetcher().fetch("http://example.com/")


async def test_a_bomb_stays_small(web: Web) -> None:
    web.pages["/"] = answer(gzip.compress(b"x" * (50 * MAX_BODY)), Content_Encoding="gzip")
    page = await web.fetcher().fetch("http://example.com/")
    assert (len(page.text), page.truncated) == (MAX_TEXT, True)


async def test_bodies_without_end_are_cut(web: Web) -> None:
    sent = 0

    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"y" * 65536)
            sent += 65536
            await writer.drain()

    web.pages["/"] = endless
    page = await web.fetcher().fetch("http://example.com/")
    assert (page.text, page.truncated) == ("y" * MAX_TEXT, True)
    assert sent < 100 * MAX_BODY


async def test_texts_at_the_limit(web: Web) -> None:
    web.pages["/"] = answer(b"y" * MAX_TEXT)
    assert not (await web.fetcher().fetch("http://example.com/")).truncated
    web.pages["/"] = answer(b"y" * (MAX_TEXT + 1))
    assert (await web.fetcher().fetch("http://example.com/")).truncated


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n123"])
async def test_servers_that_hang(web: Web, head: bytes) -> None:
    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        await gone.wait()

    gone = asyncio.Event()
    web.pages["/"] = hang
    try:
        with pytest.raises(FetchError, match=r"no whole answer within 0\.05 s"):
            await web.fetcher(time_limit=0.05).fetch("http://example.com/")
    finally:
        gone.set()


@pytest.mark.parametrize(
    "data", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n1"]
)
async def test_servers_that_break(web: Web, data: bytes) -> None:
    web.pages["/"] = data
    with pytest.raises(FetchError, match="the connection failed"):
        await web.fetcher().fetch("http://example.com/")
