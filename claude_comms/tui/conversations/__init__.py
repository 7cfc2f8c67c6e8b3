"""The screen of the conversations."""

from __future__ import annotations

from claude_comms.tui.conversations._view import ConversationsView

__all__ = ["ConversationsView"]
