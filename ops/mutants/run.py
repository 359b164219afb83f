"""Runs tests on a copy of the tree in which one mechanism is missing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("app", "migrations", "tests", "pyproject.toml", "README.md")
LONGEST = 180.0
"""Seconds for one selection of tests; a run that hangs has noticed, too."""


class MutantError(Exception):
    """A mutant cannot be made, or its tests cannot be run."""


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """A mechanism, and how the code looks without it: in `file`, `old` (which stands there `times`) becomes `new`.

    `tests` are those that must notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    times: int = 1


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the tests said: the names of those that turned red; none: the mutant survived."""

    name: str
    red: tuple[str, ...]
    took: float


class Tree:
    """A copy of the checkout in which a mutant can live."""

    def __init__(self, *, folder: Path) -> None:
        self._folder = folder
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)

    async def judge(self, mutant: Mutant) -> Verdict:
        """What the tests say of it. Raises `MutantError` where its text is not there."""
        path = self._folder / mutant.file
        original = path.read_text()
        if (count := original.count(mutant.old)) != mutant.times:
            raise MutantError(f"its text stands {count} times in {mutant.file}; bring ops/mutants up to date")
        path.write_text(original.replace(mutant.old, mutant.new))
        began = time.monotonic()
        try:
            code, said = await self.tests(mutant.tests)
        finally:
            path.write_text(original)
        if code not in (0, 1):
            raise MutantError(f"pytest ended with {code}\n{said[-3000:]}")
        red = tuple(line.split(" ")[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR ")))
        if code == 1 and not red:
            red = ("(it hung)",)
        return Verdict(name=mutant.name, red=red, took=time.monotonic() - began)

    async def tests(self, selection: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of pytest on those tests; 1 where they do not end."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "pytest",
                "-n",
                "0",
                "-p",
                "no:randomly",
                "-p",
                "no:hypothesispytest",
                "-rfE",
                "--tb=no",
                "--timeout=60",
            ),
            *selection,
            cwd=self._folder,
            env=kept | {"PYTHONPATH": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(LONGEST):
                out, _ = await process.communicate()
        except TimeoutError:
            process.terminate()
            out, _ = await process.communicate()
            return 1, out.decode()
        return process.returncode or 0, out.decode()
