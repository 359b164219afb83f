"""Signatures as the Standard Webhooks specification has them (https://www.standardwebhooks.com), symmetric, version 1."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets

from app.domain.callbacks import CallbackStore
from app.domain.errors import ConfigError, ConfigProblem

PREFIX = "whsec_"
SECRET_NAME = "callbacks"  # noqa: S105 - the name, not the secret
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret, as the specification bounds them."""


def new_secret() -> str:
    """A fresh secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signing_key(secret: str) -> bytes:
    """The bytes of a `whsec_…` secret. Raises ConfigError, which does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not SHORTEST <= len(key) <= LONGEST:
        why = (
            f"write {PREFIX} and the base64 of {SHORTEST} to {LONGEST} random bytes, or leave it out: one is made then"
        )
        raise ConfigError([ConfigProblem("callbacks.secret_env", "names a variable that holds no signing secret", why)])
    return key


async def signing_secret(store: CallbackStore, configured: str | None) -> str:
    """The secret by which receivers know us: the configured one, else the one that all replicas share, made at first use."""
    return configured if configured is not None else await store.secret(SECRET_NAME, new_secret())


def signed_headers(key: bytes, message_id: str, at: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that name, date (Unix seconds) and sign a message. The id has no full stop in it."""
    told = f"{message_id}.{at}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, told, "sha256"))
    return [
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(at).encode()),
        (b"webhook-signature", b"v1," + signature),
    ]
