"""Digests in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.events import Digest

__all__ = ["digest_text"]


def digest_text(digests: Iterable[Digest]) -> str:
    """The digests, the newest first."""
    found = list(digests)
    if not found:
        return "Nothing was held back."
    return "\n\n".join(_one(digest) for digest in reversed(found))


def _one(digest: Digest) -> str:
    lines = [f"{digest.count:,} events, {digest.first_seq} to {digest.last_seq}"]
    for line in digest.lines:
        mark = "!" if line.attention else " "
        lines.append(f"{mark} {line.count:>6,}  {line.type:<21} {line.namespace.replace('/', ' → ')}")
        lines += [f"            {text}" for text in line.texts[-2:]]
    if digest.left_out:
        lines.append(f"  {digest.left_out:>6,}  of further kinds")
    return "\n".join(lines)
