"""What single options of [auth] mean together."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from app.settings.check import KeyPath
from app.settings.options import AuthOptions

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NEEDED = ("jwt_issuer", "jwt_audience", "jwks_url")


def check_auth(written: AuthOptions, wrong: Callable[[KeyPath, str], None]) -> AuthOptions:
    """[auth] as it is used: what is written empty is not set. `wrong` is told what does not go together."""
    settled: AuthOptions = msgspec.structs.replace(
        written, **{name: getattr(written, name) or None for name in (*_NEEDED, "bootstrap_key_file", "jwt_tenant")}
    )
    missing = [name for name in _NEEDED if getattr(settled, name) is None]
    if missing and len(missing) < len(_NEEDED):
        for name in missing:
            wrong(("auth", name), "is needed with the others of jwt_issuer, jwt_audience and jwks_url")
    if len(missing) == len(_NEEDED):
        default = AuthOptions()
        for name in AuthOptions.__struct_fields__:
            if name.startswith("jwt_") and getattr(settled, name) != getattr(default, name):
                wrong(
                    ("auth", name),
                    "says something of tokens, which are taken only with jwt_issuer, jwt_audience and jwks_url",
                )
    if settled.jwks_url is not None and not _safe(settled.jwks_url):
        wrong(("auth", "jwks_url"), "must begin with https://: whoever can change what comes from it can sign tokens")
    if not settled.jwt_algorithms:
        wrong(("auth", "jwt_algorithms"), "must name one at least")
    if settled.jwt_tenant is not None and not _TENANT.fullmatch(settled.jwt_tenant):
        wrong(("auth", "jwt_tenant"), "must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    return settled


def _safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is none
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )
