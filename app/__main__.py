"""`python -m app` and the `steadyhand` script."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; its exit code."""
    from app.cli.commands import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
