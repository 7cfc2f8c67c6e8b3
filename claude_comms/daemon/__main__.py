"""``python -m claude_comms.daemon run [--listen HOST:PORT]``: the daemon without the command line around it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from claude_comms.daemon._run import run
from claude_comms.errors import ClaudeCommsError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Be the daemon until it is stopped; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m claude_comms.daemon")
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--listen", metavar="HOST:PORT")
    given = parser.parse_args(argv)
    try:
        return run(Settings.load(), listen=given.listen)
    except ClaudeCommsError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
