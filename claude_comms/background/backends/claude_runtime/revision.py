"""The git revision of a path, read from git's own files: running git in a strange repository runs its config."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["git_revision"]

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LARGEST_BYTES = 16 * 1024 * 1024
_REFERENCE = re.compile(r"ref: (refs/[^\x00-\x20\x7f~^:?*\[\\]+)")
"""What git allows in a branch's name; ``..`` it does not."""


def git_revision(path: Path) -> str | None:
    """The commit that is checked out at `path` or above it; None without one that can be read.

    Says nothing of changed files.
    """
    try:
        for folder in (path, *path.parents):
            git = _git_folder(folder / ".git")
            if git is not None:
                return _head(git)
    except (OSError, RuntimeError, ValueError):  # unreadable; a loop of links; no path at all
        return None
    return None


def _git_folder(path: Path) -> Path | None:
    """`path` itself, or where it points to in a linked worktree or a submodule."""
    if path.is_dir():
        return path
    text = _text(path)
    if text is None or not text.startswith("gitdir:"):
        return None
    folder = (path.parent / text.removeprefix("gitdir:").strip()).resolve()
    return folder if folder.is_dir() else None


def _head(git: Path) -> str | None:
    head = _text(git / "HEAD")
    if head is None:
        return None
    if _HASH.fullmatch(head):
        return head
    reference = _REFERENCE.fullmatch(head)
    if reference is None or ".." in head:
        return None
    common = _text(git / "commondir")
    folders = [git] if common is None else [git, (git / common).resolve()]
    for folder in folders:
        found = _text(folder / reference[1])
        if found is not None and _HASH.fullmatch(found):
            return found
    return _packed(folders[-1] / "packed-refs", reference[1])


def _packed(path: Path, reference: str) -> str | None:
    for line in (_text(path) or "").split("\n"):
        revision, _, name = line.partition(" ")
        if name == reference and _HASH.fullmatch(revision):
            return revision
    return None


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return None
        # Names may be of any bytes, and hold what Python takes for whitespace.
        return path.read_text("utf-8", "surrogateescape").strip(" \r\n")
    except (OSError, ValueError):
        return None
