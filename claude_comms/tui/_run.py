"""The monitor from its start to its end."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.daemon.client import RemoteEngine
    from claude_comms.settings import Settings

__all__ = ["Tidying", "engine_for", "run_monitor"]

_RECONNECT_S = 1.0
"""For how long a call waits for a daemon that is away. Short: the monitor says so, and goes on trying by itself."""
_GARBAGE_THRESHOLDS = (1_000, 10, 1_000_000)
"""New objects are looked at often and few at a time. The command line's 50,000 at once take a tenth of a second, and a
key waits for that; the old ones are left to `Tidying`."""
_UPDATES_A_SECOND = "240"
"""The most. Textual draws nothing for one or two of these spans after it has drawn something: with its usual 60 a
second, a key that comes just after a frame waits for up to 33 ms. What there is to draw comes with frames and keys."""
_FREEZES = 2
"""After the imports, and when the screens are there."""


def run_monitor(settings: Settings) -> int:
    """Show the daemon of `settings` in this terminal until the user leaves; the exit code.

    A daemon that ends is not started again from here: whoever stopped it may have meant it.
    """
    os.environ.setdefault("TEXTUAL_FPS", _UPDATES_A_SECOND)
    from claude_comms.tui._app import MonitorApp
    from claude_comms.tui._terminal import when_gone

    tidy = Tidying()
    tidy()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    app = MonitorApp(engine_for(settings), settings, tidy=tidy)
    when_gone(sys.stdin.fileno(), _end)
    app.run()
    return app.return_code or 0


def engine_for(settings: Settings) -> RemoteEngine:
    """The daemon's engine, for somebody who only watches: it starts no daemon."""
    from claude_comms.daemon.client import RemoteEngine

    return RemoteEngine(settings, starts=False, reconnect_s=_RECONNECT_S)


def _end() -> None:
    """End as after a hangup. The screen cannot be put back, and whatever is written to it may wait for ever."""
    os.kill(os.getpid(), signal.SIGHUP)


class Tidying:
    """Collects garbage when it is called.

    With its second call, when the screens are there, what there is is taken to be there for good: some hundred thousand
    objects, and to look at them all takes a tenth of a second. Later calls look at what came after, in milliseconds.
    """

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self) -> None:
        self._calls += 1
        gc.collect()
        if self._calls <= _FREEZES:
            gc.freeze()
