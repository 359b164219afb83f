"""Connections to hosts that somebody else named: so the name is hostile until proven otherwise.

Every connection resolves its host once, checks every address of the answer and connects to one of those numbers. There is
no second look-up between check and connect.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore2

from app.egress.addresses import Address, parsed

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host's addresses. Raises OSError where it has none, or nobody can tell."""


class EgressRefused(Exception):
    """The host may not be reached, or nobody knows it. The message names no address: it would map the operator's network."""


class HostUnknown(EgressRefused):
    """Its name leads nowhere. `passing`: so far as can be told at the moment."""

    def __init__(self, host: str, *, passing: bool) -> None:
        super().__init__(f"the host {host} is not known")
        self.passing = passing


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The host's addresses as the operating system knows them. Raises OSError."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in answers]


async def resolved(resolver: Resolver, allow: Callable[[Address], bool], host: str, port: int) -> list[Address]:
    """The host's addresses, every one allowed. Raises `EgressRefused`."""
    try:
        addresses = [parsed(text) for text in await resolver(host, port)]
    except (OSError, UnicodeError) as error:
        passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise HostUnknown(host, passing=passing) from error
    if not all(allow(address) for address in addresses):
        raise EgressRefused(f"{host} is not on the public internet: only public addresses may be reached")
    return list(dict.fromkeys(addresses))


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that passed the check, and only to those: `allow` judges every address of `resolver`'s answer."""

    def __init__(
        self, *, resolver: Resolver, allow: Callable[[Address], bool], network: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._resolver = resolver
        self._allow = allow
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to `host`, within `timeout` seconds over all its addresses. Raises `EgressRefused` where one of them is not allowed."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("connecting took too long") from error

    async def _connect(
        self,
        host: str,
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        failure = httpcore2.ConnectError(f"the host {host} has no address")
        for address in await resolved(self._resolver, self._allow, host, port):
            try:
                stream = await self._network.connect_tcp(
                    str(address), port, local_address=local_address, socket_options=socket_options
                )
                return _Plain(stream)
            except httpcore2.ConnectError as error:
                failure = error
        raise failure


class _Plain(httpcore2.AsyncNetworkStream):
    """A connection that is closed also when its handshake is cut off; the stream below leaves it open then."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@functools.cache
def system_tls() -> ssl.SSLContext:
    """The operator's certificate authorities; reading them takes long enough to do it once, and not on the loop."""
    return httpcore2.default_ssl_context()
