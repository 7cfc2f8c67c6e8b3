"""What a launcher that was killed could not take with it: found by a mark in its environment."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["MARK", "kill_marked"]

MARK = "CLAUDE_COMMS_SCRATCH"
"""The variable that every descendant of a process inherits. Its value is that process's own scratch folder."""

_ROUND_S = 0.005


def kill_marked(value: str, *, within_s: float = 2.0) -> None:
    """Kill all processes that have `value` as their mark, until there is none; in a thread, for it blocks.

    Linux only, and blind to a process that has cleared its environment: the launcher, while it lives, is not.
    """
    mark = f"{MARK}={value}".encode()
    until = time.monotonic() + within_s
    # Again and again: one may fork between being found and being killed.
    while (found := _marked(mark)) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_ROUND_S)


def _marked(mark: bytes) -> list[int]:
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone, or another user's
            if mark in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return [pid for pid in found if pid != os.getpid()]
