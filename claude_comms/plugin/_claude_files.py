"""Where Claude Code keeps what it knows of MCP servers."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["claude_file", "claude_project"]


def claude_file() -> Path:
    """The file that holds the servers of the scopes ``user`` and ``local``; it need not exist."""
    told = os.environ.get("CLAUDE_CONFIG_DIR")
    older = Path(told or Path.home() / ".claude") / ".config.json"
    return older if older.exists() else Path(told or Path.home()) / ".claude.json"


def claude_project(directory: Path) -> Path:
    """What Claude Code takes for the project when it works in `directory`: the repository around it, for a worktree
    the one that it belongs to; without one `directory` itself.
    """
    for folder in (directory, *directory.parents):
        if (folder / ".git").exists():
            return _main_tree(folder)
    return directory


def _main_tree(folder: Path) -> Path:
    """The main worktree of the repository whose tree `folder` is. A submodule is one of its own."""
    try:
        told = (folder / ".git").read_text(encoding="utf-8")
        git = (folder / told.removeprefix("gitdir:").strip()).resolve()
        common = (git / (git / "commondir").read_text(encoding="utf-8").strip()).resolve()
    except (OSError, ValueError):  # it is a folder, or belongs to a submodule
        return folder
    return common.parent if common.name == ".git" else folder
