"""What turns have cost."""

from __future__ import annotations

from claude_comms.tui.usage._view import UsageView

__all__ = ["UsageView"]
