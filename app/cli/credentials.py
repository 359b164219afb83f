"""The key or token for a service that runs elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from app.cli.commands import KEY_VARIABLE
from app.domain.errors import SteadyhandError


def headers_of(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """The header that says who we are; none where no key was given. Raises `SteadyhandError` for what can stand in no header."""
    key = (options.key or environ.get(KEY_VARIABLE, "")).strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SteadyhandError("the key has characters that no key has")
    return {"Authorization": f"Bearer {key}"}
