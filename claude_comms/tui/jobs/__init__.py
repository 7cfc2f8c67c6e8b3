"""The screen of the jobs."""

from __future__ import annotations

from claude_comms.tui.jobs._view import JobsView

__all__ = ["JobsView"]
