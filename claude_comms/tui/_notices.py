"""Notices: a few lines in a corner, never what hides the screen."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

from claude_comms.text import one_line, visible

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["in_lines", "notify"]

_SHARE, _FRAME = 0.65, 4
"""How much of the screen's width a notice has (as in the style sheet), and what of it is frame."""
_LINES: dict[str, int] = {"information": 2, "warning": 2, "error": 4}
_TIMEOUT_S: dict[str, float] = {"information": 4, "warning": 8, "error": 10}


def notify(
    app: App[int],
    text: str,
    severity: Literal["information", "warning", "error"] = "information",
    *,
    title: str = "",
    most_lines: int | None = None,
) -> None:
    """Say `text`, made harmless and cut to the lines that there are for it."""
    width = int(app.size.width * _SHARE) - _FRAME
    said = in_lines(text, width, most_lines or _LINES[severity])
    app.notify(said, severity=severity, title=title, markup=False, timeout=_TIMEOUT_S[severity])


def in_lines(text: str, width: int, most: int) -> str:
    """`text` as one paragraph, of which no more is left than `most` lines of `width` columns hold."""
    lines = textwrap.wrap(
        one_line(visible(text)), max(8, width), max_lines=most, placeholder=" …", break_on_hyphens=False
    )
    return " ".join(lines)
