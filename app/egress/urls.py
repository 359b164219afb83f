"""URLs that somebody else wrote."""

from __future__ import annotations

import re

import httpx2

MAX_URL = 2_000
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")


class InvalidUrl(ValueError):
    """Not a URL that a request may go to; the message says why."""


def checked_url(text: str) -> httpx2.URL:
    """An absolute http or https URL without credentials; its fragment is dropped. Raises `InvalidUrl`."""
    if len(text) > MAX_URL:
        raise InvalidUrl(f"the URL is longer than {MAX_URL} characters")
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise InvalidUrl("the URL is not valid") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidUrl("the URL must be absolute and begin with http:// or https://")
    if not _HOST.fullmatch(url.raw_host):
        raise InvalidUrl("the URL's host is not valid")
    if url.port is not None and not 0 < url.port < 65_536:
        raise InvalidUrl("the URL's port must be 1 to 65535")
    if url.userinfo:
        raise InvalidUrl("the URL must not hold credentials")
    return url.copy_with(fragment=None)


def port_of(url: httpx2.URL) -> int:
    """The port that it leads to, written or not."""
    return url.port or (443 if url.scheme == "https" else 80)
