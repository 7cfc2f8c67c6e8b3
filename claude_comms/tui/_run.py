"""The monitor from its start to its end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["run_monitor", "tidy"]

_RECONNECT_S = 1.0
"""For how long a call waits for a daemon that is away. Short: the monitor says so, and goes on trying by itself."""


def run_monitor(settings: Settings) -> int:
    """Show the daemon of `settings` in this terminal until the user leaves; the exit code.

    A daemon that ends is not started again from here: whoever stopped it may have meant it.
    """
    from claude_comms.daemon.client import RemoteEngine
    from claude_comms.tui._app import MonitorApp

    # A full collection over all that was imported takes a tenth of a second, and a key waits for it. Without that it
    # takes a hundredth, but Python would wait with it until as much again has been made: it is asked for.
    gc.collect()
    gc.freeze()
    engine = RemoteEngine(settings, starts=False, reconnect_s=_RECONNECT_S)
    app = MonitorApp(engine, settings, tidy=tidy)
    app.run()
    return app.return_code or 0


def tidy() -> None:
    """Collect garbage. Textual looks at the signature of what it calls, and the built-in's would not do."""
    gc.collect()
