"""The first admin key, from a file that a deployment gives, or that is made here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import stat
from pathlib import Path

from app.access.format import digest_of, id_of, is_key, new_key
from app.domain.access import ApiKeyStore, NewKey
from app.domain.errors import ConfigError, ConfigProblem
from app.domain.principals import DEFAULT_TENANT, Principal

log = logging.getLogger(__name__)

_OWN = re.compile(r"[A-Za-z0-9_~+/=-]{24,512}", re.ASCII)
"""A key that an operator wrote: long enough that nobody guesses it if it is random, and without dots, which tokens have."""
LEAST_DIFFERENT = 6
"""Different characters of such a key: what has fewer was not drawn at random, but put there to be replaced."""
BY = Principal(tenant=DEFAULT_TENANT, actor="system")
SETTING = "auth.bootstrap_key_file"


async def keep_first_key(store: ApiKeyStore, file: Path) -> None:
    """The content of the file is an admin key of tenant `default`; where there is no file, one is made, with a new key in it.

    A key that was revoked stays so. Raises `ConfigError` for a file that cannot be read or written, that every user of the machine
    may write, or that holds no key.
    """
    try:
        text = await asyncio.to_thread(_content, file)
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(file, "cannot be used", str(error)) from error
    if not is_key(text) and not _OWN.fullmatch(text):
        raise _wrong(
            file, "holds no key", "a key is 24 to 512 of A-Z a-z 0-9 _ ~ + / = -, such as `openssl rand -hex 32` gives"
        )
    if len(set(text)) < LEAST_DIFFERENT:
        raise _wrong(file, "holds no key", "it can be guessed: `openssl rand -hex 32` gives one that cannot")
    digest = digest_of(text)
    made = await store.create(
        BY,
        NewKey(
            id=id_of(text) if is_key(text) else f"key_{hashlib.sha256(digest).hexdigest()[:12]}",
            digest=digest,
            tenant=DEFAULT_TENANT,
            user_id=None,
            scopes=("admin",),
            expires_at=None,
            free_form=not is_key(text),
        ),
    )
    if made is not None:
        log.info("the first key was made", extra={"key": made.id, "file": str(file)})
        return
    there = await store.by_digest(digest)
    if there is None:
        raise _wrong(file, "holds a key whose id another one has", "write another one")
    if there.revoked_at is not None:
        log.warning("the key of the bootstrap file was revoked, and stays so", extra={"key": there.id})


def _content(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            if os.fstat(opened.fileno()).st_mode & stat.S_IWOTH:
                raise _wrong(file, "is not taken", "every user of this machine can write it: chmod 600 it")
            return opened.read().strip()
    except FileNotFoundError:
        return _written(file)


def _written(file: Path) -> str:
    """A new file that only we can read. Of several processes that begin at once one writes it whole, the others read it."""
    text, _ = new_key()
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
        made.write(text + "\n")
    try:
        os.link(beside, file)
    except FileExistsError:
        return file.read_text("utf-8").strip()
    finally:
        beside.unlink()
    return text


def _wrong(file: Path, what: str, why: str) -> ConfigError:
    return ConfigError([ConfigProblem(f"{SETTING} ({file})", what, why)])
