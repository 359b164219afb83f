"""What the settings say of the world around: URLs of servers, origins, proxies, the path that the service is shown under."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from app.settings.check import KeyPath
from app.settings.options import Database, Server

_HOST = r"(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)"
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST}(?::[0-9]{{1,5}})?")
_ROOT = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_edge(server: Server, wrong: Callable[[KeyPath, str], None]) -> None:
    """Tells `wrong` every origin, network and path that could never match anything, or would match more than it seems to."""
    for origin in server.cors_origins:
        if origin != "*" and (why := _no_origin(origin)):
            wrong(("server", "cors_origins"), f"{origin!r} {why}")
    if "*" in server.cors_origins and len(server.cors_origins) > 1:
        wrong(("server", "cors_origins"), "'*' means every origin: write it alone")
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            wrong(("server", "trusted_proxies"), f"{error}, such as 10.0.0.0/8 or 192.168.1.7")
    if server.root_path and (not _ROOT.fullmatch(server.root_path) or {".", ".."} & set(server.root_path.split("/"))):
        wrong(
            ("server", "root_path"), f"{server.root_path!r} is not a path such as /agents, without a slash at its end"
        )


def check_database(database: Database, wrong: Callable[[KeyPath, str], None]) -> None:
    """Tells `wrong` what could not be reached, or never be used."""
    if database.pool_min > database.pool_max:
        wrong(("database", "pool_min"), f"{database.pool_min} is more than pool_max, which is {database.pool_max}")
    for key, url in (("url", database.url), ("direct_url", database.direct_url)):
        if url and not url.startswith(("postgresql://", "postgres://")):
            wrong(("database", key), "must begin with postgresql://")
        elif url and (why := no_url(url)):
            wrong(("database", key), why)
    if database.direct_url and not database.url:
        wrong(("database", "direct_url"), "is the way round the pooler of database.url, which is not set")


def no_url(url: str) -> str | None:
    """What is wrong with the URL of a server, without a piece of it: what cannot be read as one may be a password anywhere."""
    try:
        parts = urlsplit(url)
        broken = bool(parts.fragment) or parts.port == -1
        if parts.query:
            parse_qsl(parts.query, strict_parsing=True)  # no word may stand alone: it may be the rest of a password
    except ValueError:
        broken = True
    if broken:
        return "cannot be read as a URL; in a user or a password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %"
    return None


def _no_origin(text: str) -> str | None:
    """Browsers send origins in one spelling only, which is compared as it is."""
    scheme = text.partition("://")[0]
    if _ORIGIN.fullmatch(text) is None:
        return "is not an origin such as https://app.example.com, in lower case and without a path"
    if (port := _DEFAULT_PORTS.get(scheme)) and text.endswith(port):
        return f"never comes so: browsers leave out {port} after {scheme}://"
    return None
