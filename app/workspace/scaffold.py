"""`init`: a workspace to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.domain.errors import ConfigError, ConfigProblem
from app.workspace.load import SHIPPED

_EXAMPLE = Path(__file__).parent / "example"


def scaffold(folder: Path) -> list[Path]:
    """Write the shipped workspace and an example tool with its agent into `folder`; the files written, in order.

    Nothing that is there is touched: raises ConfigError that names every file in the way, before the first one is written,
    and for a folder that cannot be written.
    """
    contents = {
        folder / path.relative_to(root): path.read_bytes()
        for root in (SHIPPED, _EXAMPLE)
        for path in sorted(root.rglob("*"))
        if path.suffix in (".toml", ".yaml", ".py")
    }
    return write_new(contents)


def write_new(contents: Mapping[Path, bytes]) -> list[Path]:
    """Write those files and their folders; the files written, in order. Raises ConfigError, before the first one where one is there already."""
    if taken := [path for path in contents if path.exists() or path.is_symlink()]:
        raise ConfigError([ConfigProblem(str(path), "is already there", "init overwrites nothing") for path in taken])
    for path, data in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        except OSError as error:
            raise ConfigError([ConfigProblem(str(path), "cannot be written", error.strerror or str(error))]) from error
    return list(contents)
