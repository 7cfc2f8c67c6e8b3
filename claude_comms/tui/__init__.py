"""The terminal monitor: what happens, as it happens, over the daemon's API and events. Textual stays in this room."""

from __future__ import annotations

from claude_comms.tui._run import run_monitor

__all__ = ["run_monitor"]
