"""Claude Code as a backend: warm processes that sit in the target modules' directories, confined and resumable.

Importing this is cheap; the Agent SDK (the extra ``claude-code``) is imported when the first session is opened.
"""

from __future__ import annotations

from claude_comms.background.backends.claude_code._backend import ClaudeCodeBackend, look_for_claude_code

__all__ = ["ClaudeCodeBackend", "look_for_claude_code"]
