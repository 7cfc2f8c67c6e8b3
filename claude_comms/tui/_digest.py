"""Digests in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.text import shorten
from claude_comms.tui._figures import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.events import Digest

__all__ = ["digest_line", "digest_text"]

_KINDS_TOLD = 2


def digest_text(digests: Iterable[Digest]) -> str:
    """The digests, the newest first."""
    found = list(digests)
    if not found:
        return "Nothing was held back."
    return "\n\n".join(_one(digest) for digest in reversed(found))


def digest_line(digest: Digest) -> str:
    """What was held back, for a notice."""
    kinds = ", ".join(f"{line.count:,} {line.type}" for line in digest.lines[:_KINDS_TOLD])
    return shorten(
        f"{digest.count:,} events held back: {kinds}{' …' if len(digest.lines) > _KINDS_TOLD else ''} (g)", 120
    )


def _one(digest: Digest) -> str:
    newest = max((event.time for line in digest.lines for event in line.latest), default=None)
    until = "" if newest is None else f", the last at {clock(newest)}"
    lines = [f"{digest.count:,} events, {digest.first_seq} to {digest.last_seq}{until}"]
    for line in digest.lines:
        mark = "!" if line.attention else " "
        lines.append(f"{mark} {line.count:>6,}  {line.type:<21} {line.namespace.replace('/', ' → ')}")
        lines += [f"            {text}" for text in line.texts[-2:]]
    if digest.left_out:
        lines.append(f"  {digest.left_out:>6,}  of further kinds")
    return "\n".join(lines)
