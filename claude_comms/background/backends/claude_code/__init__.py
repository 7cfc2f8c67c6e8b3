"""Claude Code as a backend: warm processes that sit in the target modules' directories, confined and resumable.

Importing this is cheap; the Agent SDK (the extra ``claude-code``) is imported when the first session is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.background.backends.claude_code._backend import ClaudeCodeBackend, look_for_claude_code

if TYPE_CHECKING:
    from claude_comms.background.backends.claude_code._interactive import InteractiveSession

__all__ = ["ClaudeCodeBackend", "InteractiveSession", "look_for_claude_code"]


def __getattr__(name: str) -> object:
    if name in ("InteractiveSession", "TerminalTurn"):
        from claude_comms.background.backends.claude_code import _interactive

        return getattr(_interactive, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
