"""Where the fetching tool goes and where it does not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import httpcore2
import msgspec
import pytest

from app.domain.tool_policy import Rule, ToolPolicy
from app.egress.addresses import is_public
from app.egress.network import system_resolver
from app.egress.urls import MAX_URL
from app.safety.arguments import unlisted
from app.tools.declare import declare
from app.tools.http_fetch import Fetcher, FetchError, Page, http_fetch
from tests.tools.calls import context
from tests.tools.web import OTHER, PUBLIC, Cable, Web, answer, redirect


async def test_a_page(web: Web) -> None:
    web.pages["/hello?x=1"] = answer("grüße".encode(), kind="text/plain; charset=utf-8")
    page = await web.fetcher().fetch("http://example.com/hello?x=1#part")
    assert page == Page(
        url="http://example.com/hello?x=1", status=200, content_type="text/plain", text="grüße", truncated=False
    )
    assert web.connections == [(PUBLIC, 80)]
    assert web.lookups == ["example.com"]
    head = web.requests[0].lower()
    assert b"host: example.com\r\n" in head
    for never in (b"cookie", b"authorization", b"proxy"):
        assert never not in head


async def test_other_statuses_are_answers_too(web: Web) -> None:
    page = await web.fetcher().fetch("http://example.com/none")
    assert (page.status, page.text) == (404, "nothing here")


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
        *(
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
        ),
        *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *(
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
        ),
        *(
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
        ),
        *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1%1"),
    ],
)
async def test_addresses_that_are_not_public(web: Web, address: str) -> None:
    assert not is_public(ip_address(address))
    web.names["inside.example"] = [[address]]
    web.names["mixed.example"] = [[PUBLIC, address]]
    for host in ("inside.example", "mixed.example"):
        with pytest.raises(FetchError, match="not on the public internet") as caught:
            await web.fetcher().fetch(f"http://{host}/")
        assert address not in str(caught.value)
    assert web.connections == []


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "11.0.0.1", "223.255.255.255"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", ["2606:4700:4700::1111", "2a00:1450::1", OTHER, "64:ff9b::808:808"])
def test_public_ipv6_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0x7f.1", "2130706433", "127.1", "0", "localhost"],
)
async def test_addresses_in_the_url(web: Web, host: str) -> None:
    with pytest.raises(FetchError):
        await web.fetcher().fetch(f"http://{host}/")
    assert web.connections == []


async def test_an_allow_list_holds_on_the_way_too(web: Web) -> None:
    """The URL that was asked for is on it; the one that the server leads to is not, and nobody is asked for its address."""
    web.names["evil.example"] = [[OTHER]]
    web.pages["/"] = redirect("http://evil.example/collect?d=secret")
    web.pages["/own"] = redirect("/there")
    web.pages["/there"] = answer(b"hello")
    spec = declare(http_fetch).spec
    listed = msgspec.structs.replace(spec, policy=ToolPolicy(allow={"url": Rule(hosts=("example.com",))}))
    fetcher = web.fetcher(permits=lambda url: unlisted(listed, "url", url))
    with pytest.raises(FetchError, match="url must be a URL of"):
        await fetcher.fetch("http://example.com/")
    with pytest.raises(FetchError, match="does not allow"):
        await fetcher.fetch("http://evil.example/")
    assert web.lookups == ["example.com"]
    assert (await fetcher.fetch("http://example.com/own")).text == "hello"


async def test_the_tool_asks_its_context_what_it_may_fetch() -> None:
    asked: list[tuple[str, str]] = []

    def permits(parameter: str, value: str) -> str | None:
        asked.append((parameter, value))
        return "not on the list"

    with pytest.raises(FetchError, match="not on the list"):
        await http_fetch("http://example.com/x", msgspec.structs.replace(context(), permits=permits))
    assert asked == [("url", "http://example.com/x")]


async def test_rebinding_finds_no_second_lookup(web: Web) -> None:
    """The name is public when it is checked, and would be private a moment later."""
    web.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    web.pages["/"] = answer(b"hello")
    assert (await web.fetcher().fetch("http://rebind.example/")).text == "hello"
    assert (web.lookups, web.connections) == (["rebind.example"], [(PUBLIC, 80)])


async def test_a_redirect_is_checked_again_even_to_the_same_name(web: Web) -> None:
    web.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    web.pages["/"] = redirect("/again")
    with pytest.raises(FetchError, match="not on the public internet"):
        await web.fetcher().fetch("http://rebind.example/")
    assert web.connections == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1/", "not on the public internet"),
        ("http://169.254.169.254/latest/meta-data/", "not on the public internet"),
        ("http://[::ffff:10.0.0.1]/", "not on the public internet"),
        ("//localhost/", "not on the public internet"),
        ("file:///etc/passwd", "must be absolute and begin with"),
        ("gopher://example.com/", "must be absolute and begin with"),
        ("http://user:secret@example.com/", "credentials"),
        ("http://example.com:22/", "port 22 is not allowed"),
        ("http://①②⑦.0.0.1/", "invalid URL"),
        ("http://[", "host is not valid"),
    ],
)
async def test_redirects_to_where_nobody_may_go(web: Web, location: str, reason: str) -> None:
    for status in ("301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"):
        web.pages["/"] = redirect(location, status)
        with pytest.raises(FetchError, match=reason):
            await web.fetcher().fetch("http://example.com/")
    assert web.connections == [(PUBLIC, 80)] * 5


async def test_redirects_are_followed_up_to_a_limit(web: Web) -> None:
    web.names["other.example"] = [[OTHER]]
    for step in range(5):
        web.pages[f"/{step}"] = redirect(f"http://other.example/{step + 1}")
    web.pages["/5"] = answer(b"there")
    page = await web.fetcher().fetch("http://example.com/0")
    assert (page.url, page.text) == ("http://other.example/5", "there")
    assert web.connections == [(PUBLIC, 80)] + [(OTHER, 80)] * 5
    web.pages["/5"] = redirect("/6")
    with pytest.raises(FetchError, match="more than 5 redirects"):
        await web.fetcher().fetch("http://example.com/0")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "absolute"),
        ("example.com", "absolute"),
        ("/path", "absolute"),
        ("ftp://example.com/", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("http://", "absolute"),
        ("http://user@example.com/", "credentials"),
        ("http://user:pass@example.com/", "credentials"),
        ("http://example.com:6379/", "port 6379 is not allowed"),
        ("http://example.com:99999/", "not valid|port"),
        ("http://exa mple.com/", "not valid"),
        ("http://ex%61mple.com/", "not valid"),
        ("http://[fe80::1%25eth0]/", "not valid"),
        ("http://①②⑦.0.0.1/", "not valid"),
        ("http://example.com/\x00", "not valid"),
        ("http://example.com/\ud800", "not valid"),
        ("http://example.com/" + "x" * MAX_URL, "longer than"),
    ],
)
async def test_urls_that_are_refused(web: Web, url: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        await web.fetcher().fetch(url)
    assert web.lookups == []


async def test_header_injection_is_impossible(web: Web) -> None:
    web.pages["/a%0D%0AX-Evil:%201"] = answer(b"as one path")
    try:
        assert (await web.fetcher().fetch("http://example.com/a%0D%0AX-Evil:%201")).text == "as one path"
        await web.fetcher().fetch("http://example.com/a\r\nX-Evil: 1")
    except FetchError:
        pass
    assert all(b"\r\nx-evil" not in head.lower() for head in web.requests)


async def test_every_address_is_tried(web: Web) -> None:
    web.names["two.example"] = [[OTHER, PUBLIC]]
    web.refused.add(OTHER)
    web.pages["/"] = answer(b"second")
    assert (await web.fetcher().fetch("http://two.example/")).text == "second"
    assert web.connections == [(OTHER, 80), (PUBLIC, 80)]
    web.refused.add(PUBLIC)
    with pytest.raises(FetchError, match="the connection failed"):
        await web.fetcher().fetch("http://two.example/")


async def test_the_system_resolver_gives_numbers() -> None:
    assert {ip_address(text).is_loopback for text in await system_resolver("localhost", 80)} == {True}


async def test_unknown_hosts(web: Web) -> None:
    web.names["empty.example"] = [[]]
    with pytest.raises(FetchError, match="has no address"):
        await web.fetcher().fetch("http://empty.example/")

    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(FetchError, match=r"host gone\.example is not known"):
        await Fetcher(resolver=nobody, allow=is_public, network=Cable(web)).fetch("http://gone.example/")


class Recorded(httpcore2.AsyncMockStream):
    """A TLS server that keeps the name it was asked for."""

    names: list[str | None]

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        self.names.append(server_hostname)
        assert ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert ssl_context.check_hostname
        return self


class Secure(httpcore2.AsyncNetworkBackend):
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.names: list[str | None] = []
        self.connections: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connections.append((host, port))
        stream = Recorded([self.data])
        stream.names = self.names
        return stream


async def test_tls_is_for_the_name_and_the_connection_for_the_checked_number(web: Web) -> None:
    network = Secure(answer(b"secret"))
    page = await Fetcher(resolver=web.resolve, allow=is_public, network=network).fetch("https://example.com/")
    assert page.text == "secret"
    assert (network.names, network.connections) == (["example.com"], [(PUBLIC, 443)])


async def test_no_way_back_from_https(web: Web) -> None:
    network = Secure(redirect("http://example.com/"))
    with pytest.raises(FetchError, match="from https to http"):
        await Fetcher(resolver=web.resolve, allow=is_public, network=network).fetch("https://example.com/")
    assert network.connections == [(PUBLIC, 443)]


async def test_cancellation_is_raised(web: Web) -> None:
    asked = asyncio.Event()
    gone = asyncio.Event()

    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await gone.wait()

    web.pages["/"] = hang
    task = asyncio.create_task(web.fetcher().fetch("http://example.com/"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()


async def test_the_tool_itself_refuses_this_machine(web: Web) -> None:
    with pytest.raises(FetchError, match="not on the public internet"):
        await http_fetch("http://localhost:8080/", context())
    spec = declare(http_fetch).spec
    assert (spec.name, spec.risk, spec.effect) == ("http_fetch", "medium", "read")
