"""The screen of the events."""

from __future__ import annotations

from claude_comms.tui.events._view import EventsView

__all__ = ["EventsView"]
