"""What a key looks like: `sth_ID_SECRET` with a checksum at its end, so that scanners find it, and garbage is told without a look-up."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

LONGEST = 8_192
"""Characters of a key or a token."""
PREFIX = "sth_"
"""What every key begins with."""
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 12, 32, 6
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{ID_LENGTH}}}_[0-9A-Za-z]{{{SECRET_LENGTH + CHECK_LENGTH}}}", re.ASCII)


def new_key() -> tuple[str, str]:
    """A new key and its id. The secret in it has 190 bits."""
    name, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
    body = f"{PREFIX}{name}_{secret}"
    return body + checksum(body), f"key_{name}"


def is_key(text: str) -> bool:
    """Whether it looks like one of ours, to its checksum. That proves nothing but that nobody mistyped it."""
    return _KEY.fullmatch(text) is not None and checksum(text[:-CHECK_LENGTH]) == text[-CHECK_LENGTH:]


def id_of(key: str) -> str:
    """The id of a key that looks like one of ours."""
    return f"key_{key[len(PREFIX) : len(PREFIX) + ID_LENGTH]}"


def digest_of(key: str) -> bytes:
    """What is kept of a key, and what it is found by.

    One round of SHA-256 is enough: nobody can guess 190 random bits, however fast, so nothing is won by making each guess slow.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def checksum(body: str) -> str:
    """CRC-32 of the rest of a key, in base 62."""
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
