"""Being told to end: SIGTERM and SIGHUP are taken as Ctrl-C is, so that what was begun is stored as what it is."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["exit_code", "listen"]

_SHELLS_OFFSET = 128
"""A shell reports a process that a signal ended as this plus the signal's number."""
_OUTPUTS = (1, 2)

_received: list[int] = []


def listen() -> None:
    """Raise KeyboardInterrupt in the main thread at SIGTERM and SIGHUP, unless they are ignored, as under nohup."""
    terminals = [number for number in _OUTPUTS if os.isatty(number)]

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        _received.append(number)
        _let_go_of(terminals)
        raise KeyboardInterrupt

    for wanted in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(wanted) is signal.SIG_DFL:
            signal.signal(wanted, end)


def exit_code() -> int:
    """What an interrupted process exits with: 130, 143 or 129, by the signal that came."""
    return _SHELLS_OFFSET + (_received[0] if _received else signal.SIGINT)


def _let_go_of(terminals: list[int]) -> None:
    """Where a terminal is gone, let what is still told go nowhere: writing to it would fail."""
    for number in terminals:
        if not os.isatty(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
