"""Who is logged in to Claude Code here, and what `health` says where nobody is, or something else is missing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from claude_comms.background.backends.claude_runtime.binary import login_command
from claude_comms.background.backends.claude_runtime.workspace import CREDENTIALS
from claude_comms.background.backends.protocol import BackendHealth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.background.backends.claude_runtime.binary import Binary
    from claude_comms.background.backends.claude_runtime.workspace import Workspace
    from claude_comms.errors import ClaudeCommsError

__all__ = ["login_of", "not_logged_in", "unusable"]


def login_of(variables: Mapping[str, str], workspace: Workspace) -> str | None:
    """Where the login comes from, or None. Never what it is."""
    for name in CREDENTIALS:
        if variables.get(name) or os.environ.get(name):
            return f"with {name}"
    return "logged in" if workspace.credentials.is_file() else None


def unusable(error: ClaudeCommsError, facts: Mapping[str, str]) -> BackendHealth:
    """What `error` says: the reason first, then what to do."""
    reason, _, hint = str(error).partition(". ")
    return BackendHealth(usable=False, reason=reason, hint=hint, facts=facts)


def not_logged_in(workspace: Workspace, binary: Binary, facts: Mapping[str, str]) -> BackendHealth:
    """Everything is there but a login."""
    return BackendHealth(
        usable=False,
        reason="nobody is logged in to Claude Code",
        hint=f"Set ANTHROPIC_API_KEY, or log in: {login_command(binary.path, workspace.config)}",
        facts=facts,
    )
