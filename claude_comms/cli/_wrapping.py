"""Text wrapped for the reader's terminal; left alone in a pipe."""

from __future__ import annotations

import sys
import textwrap

from claude_comms.cli import _console as console

__all__ = ["hanging", "paragraph"]

_WIDEST = 100
_NARROWEST = 30


def paragraph(text: str, indent: str = "") -> str:
    """`text` wrapped line by line, each line after `indent`."""
    return _wrapped(text, indent, indent, breaks=False)


def hanging(label: str, text: str, *, breaks: bool = False) -> str:
    """`label`, then `text` beside it, its further lines under its first. A word too long for a line stays whole, to be
    copied, unless it `breaks`.
    """
    return _wrapped(text, label, " " * len(label), breaks=breaks)


def _wrapped(text: str, first: str, later: str, *, breaks: bool) -> str:
    lines = text.splitlines() or [""]
    if not console.is_terminal(sys.stdout):
        return first + f"\n{later}".join(lines)
    room = max(min(console.width(), _WIDEST), len(later) + _NARROWEST)
    wrapped: list[str] = []
    for line in lines:
        indent = later if wrapped else first
        wrapped += textwrap.wrap(
            line, room, initial_indent=indent, subsequent_indent=later, break_long_words=breaks, break_on_hyphens=False
        ) or [indent.rstrip()]
    return "\n".join(wrapped)
