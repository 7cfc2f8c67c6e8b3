"""What the monitor asks: a question's text, whether something that cannot be undone is meant, where to write to."""

from __future__ import annotations

from claude_comms.tui.dialogs._ask import AskDialog, Asked
from claude_comms.tui.dialogs._confirm import ConfirmDialog
from claude_comms.tui.dialogs._export import ExportDialog
from claude_comms.tui.dialogs._help import HelpScreen
from claude_comms.tui.dialogs._reading import ReadingScreen

__all__ = ["AskDialog", "Asked", "ConfirmDialog", "ExportDialog", "HelpScreen", "ReadingScreen"]
