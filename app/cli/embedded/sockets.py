"""Where the server's socket is: in a folder of its own, whose name nobody has to be told twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_LONGEST_SOCKET = 103
"""Bytes of a socket's path that every Unix takes (Linux 107, macOS 103)."""


def socket_folder(data_dir: Path) -> Path:
    """A new folder of mode 0700 that is short enough for a socket.

    It has the same name at every start, so that who was connected finds the next server; another name where that is taken.
    """
    name = f"steadyhand-{hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]}"
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - made by us alone, or not used
        if len(os.fsencode(place)) + len(f"/{name}/.s.PGSQL.65535") <= _LONGEST_SOCKET:
            with contextlib.suppress(FileExistsError):
                (Path(place) / name).mkdir(mode=0o700)
                return Path(place) / name
            return Path(tempfile.mkdtemp(prefix="steadyhand-", dir=place))
    raise AssertionError("one of the two is short enough")
