"""The dependencies. `python -m ops.dependencies`: the lock and this environment, offline. `python -m ops.dependencies advisories`:
known vulnerabilities of what is locked; exit code 77 where their list cannot be reached, which is neither good nor bad.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from ops.dependencies import audit

ROOT = Path(__file__).parents[2]
COMMAND = ("uv", "audit", "--frozen", "--preview-features", "audit")
SECONDS = 60.0


def main(arguments: list[str]) -> int:
    """Exit codes: 0 nothing found, 1 something, 2 usage, 77 not looked at."""
    if arguments == ["advisories"]:
        code, said = audit.advisories(COMMAND, seconds=SECONDS)
        print(said)
        return code
    if arguments:
        print((__doc__ or "").strip())
        return 2
    lock = (ROOT / "uv.lock").read_text()
    folders = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    wrong = [*audit.unpinned(lock), *audit.startup_code(folders), *audit.drifted(lock, audit.installed())]
    print("\n".join(wrong) or "every file has its hash; nothing runs unasked; what is installed is what is locked")
    return audit.FOUND if wrong else audit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
