"""The command line: ``claude-comms``.

What each command needs is imported when it runs, so that help and completion come at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130
_GARBAGE_THRESHOLD = 50_000
"""Allocations between two looks for garbage. The usual 700 has it look a hundred times while a command is imported."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv` (by default the process's own) and exit: 0 done, 1 failed, 2 misuse, 130 Ctrl-C.

    SIGTERM and SIGHUP end it as Ctrl-C does, with 143 and 129.
    """
    arguments = sys.argv[1:] if argv is None else argv
    gc.set_threshold(_GARBAGE_THRESHOLD)
    # To find pydantic's plugins, it reads the metadata of every package that is installed: 20 ms, and we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        code = _run(arguments)
    except KeyboardInterrupt:  # before `run` could take it: most of a short command's time goes into imports
        _tell_interrupted(arguments)
        code = _INTERRUPTED
    code = _by_signal() if code == _INTERRUPTED else code
    if argv is None:
        _leave(code)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    from claude_comms.cli import _signals, _standard_streams

    _signals.listen()
    _standard_streams.prepare()
    from claude_comms.cli._run import run

    return run(arguments)


def _leave(code: int) -> NoReturn:
    """End this process, which is ours, at once. What a command held is closed by now; to take its modules apart one by
    one would cost the interpreter another 40 ms.
    """
    import atexit

    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - coverage writes its data there
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # `run` has told what could not be written
            stream.flush()
    os._exit(code)


def _by_signal() -> int:
    from claude_comms.cli import _signals

    return _signals.exit_code()


def _tell_interrupted(arguments: Sequence[str]) -> None:
    """As `run` tells it, with nothing but what is loaded already."""
    from claude_comms.cli._interrupted import streams

    if "--json" in arguments:
        if streams(arguments):
            return
        print('{"error": {"type": "KeyboardInterrupt", "message": "interrupted"}}', flush=True)  # noqa: T201
    else:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
