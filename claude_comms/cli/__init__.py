"""The command line: ``claude-comms``.

What each command needs is imported when it runs, so that help and completion come at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv` (by default the process's own) and exit: 0 done, 1 failed, 2 misuse, 130 Ctrl-C."""
    from claude_comms.cli._run import run

    sys.exit(run(sys.argv[1:] if argv is None else argv))
