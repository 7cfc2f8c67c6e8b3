"""The command line: ``claude-comms``.

What each command needs is imported when it runs, so that help and completion come at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv` (by default the process's own) and exit: 0 done, 1 failed, 2 misuse, 130 Ctrl-C.

    SIGTERM and SIGHUP end it as Ctrl-C does, with 143 and 129.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _run(arguments)
    except KeyboardInterrupt:  # before `run` could take it: most of a short command's time goes into imports
        _tell_interrupted(arguments)
        code = _INTERRUPTED
    sys.exit(_by_signal() if code == _INTERRUPTED else code)


def _run(arguments: Sequence[str]) -> int:
    from claude_comms.cli import _signals, _standard_streams

    _signals.listen()
    _standard_streams.prepare()
    from claude_comms.cli._run import run

    return run(arguments)


def _by_signal() -> int:
    from claude_comms.cli import _signals

    return _signals.exit_code()


def _tell_interrupted(arguments: Sequence[str]) -> None:
    """As `run` tells it, with nothing but what is loaded already."""
    if "--json" in arguments:
        print('{"error": {"type": "KeyboardInterrupt", "message": "interrupted"}}', flush=True)  # noqa: T201
    else:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
