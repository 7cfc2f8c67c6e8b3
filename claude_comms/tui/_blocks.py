"""Markdown in blocks that can be drawn one by one: of an answer under way only the last one is drawn again."""

from __future__ import annotations

__all__ = ["blocks_of"]

_LONGEST_BLOCK = 1_000
_FENCES = ("```", "~~~")


def blocks_of(text: str) -> list[str]:
    """`text` parted at blank lines, but not within a fence, nor before what is indented and so goes on.

    A block beyond 2,000 characters is parted at the end of a line or of a word. Joined, they are the text again.
    """
    blocks: list[str] = []
    block: list[str] = []
    fence = ""
    size = 0
    for line in text.splitlines(keepends=True):
        opens = line.lstrip()[:3]
        if not fence and block and not block[-1].strip() and line.strip() and not line[0].isspace():
            blocks.append("".join(block))
            block, size = [], 0
        if opens in _FENCES and (not fence or opens == fence):
            fence = "" if fence else opens
        if size + len(line) > _LONGEST_BLOCK and block and not fence:
            blocks.append("".join(block))
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        blocks.append("".join(block))
    return [part for block in blocks for part in _parted(block)]


def _parted(block: str) -> list[str]:
    parts: list[str] = []
    while len(block) > 2 * _LONGEST_BLOCK:
        end = max(block.rfind("\n", 0, _LONGEST_BLOCK), block.rfind(" ", 0, _LONGEST_BLOCK)) + 1 or _LONGEST_BLOCK
        parts.append(block[:end])
        block = block[end:]
    return [*parts, block]
