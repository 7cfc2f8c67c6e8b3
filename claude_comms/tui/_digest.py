"""Digests in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.text import shorten, visible
from claude_comms.tui._figures import clock
from claude_comms.tui.model import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.events import Digest, DigestLine

__all__ = ["digest_line", "digest_text"]

_KINDS_TOLD = 2


_WIDEST, _FRAME, _INDENT = 90, 8, 12
_ONLY_COUNTED = frozenset({"turn.delta"})
"""A piece of an answer is half a sentence."""
_LATEST = 2


def digest_text(digests: Iterable[Digest], screen_width: int) -> str:
    """The digests, the newest first, in lines that fit on a screen of so many columns."""
    found = list(digests)
    if not found:
        return "Nothing was held back."
    return "\n\n".join(_one(digest, min(_WIDEST, screen_width) - _FRAME) for digest in reversed(found))


def digest_line(digest: Digest) -> str:
    """What was held back, for a notice."""
    kinds = ", ".join(f"{line.count:,} {line.type}" for line in digest.lines[:_KINDS_TOLD])
    return shorten(
        f"{digest.count:,} events held back: {kinds}{' …' if len(digest.lines) > _KINDS_TOLD else ''} (g)", 120
    )


def _one(digest: Digest, width: int) -> str:
    newest = max((event.time for line in digest.lines for event in line.latest), default=None)
    until = "" if newest is None else f", the last at {clock(newest)}"
    lines = [f"{digest.count:,} events, {digest.first_seq} to {digest.last_seq}{until}"]
    for line in digest.lines:
        mark = "!" if line.attention else " "
        where = line.namespace.replace("/", " → ")
        lines.append(_cut(f"{mark} {line.count:>6,}  {line.type:<21} {where}", width))
        lines += [" " * _INDENT + shorten(visible(text), max(1, width - _INDENT)) for text in _said(line)]
    if digest.left_out:
        lines.append(f"  {digest.left_out:>6,}  of further kinds")
    return "\n".join(lines)


def _said(line: DigestLine) -> list[str]:
    """What the latest of them said, nothing twice."""
    if line.type in _ONLY_COUNTED:
        return []
    return list(dict.fromkeys(words_of(event) for event in line.latest[-_LATEST:]))


def _cut(line: str, width: int) -> str:
    line = visible(line)
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
