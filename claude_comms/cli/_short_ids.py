"""Ids as a narrow terminal shows them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from claude_comms.cli import _console as console

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["short_ids"]

_SHORTEST_ID = 14
_ROOM_FOR_WHOLE_IDS = 120


def short_ids(ids: Sequence[str]) -> list[str]:
    """A beginning of each id that tells them apart. Whole everywhere but on a narrow terminal."""
    if not console.is_terminal(sys.stdout) or console.width() >= _ROOM_FOR_WHOLE_IDS:
        return list(ids)
    whole = set(ids)
    size = _SHORTEST_ID
    while len({one[:size] for one in whole}) < len(whole):
        size += 1
    return [one[:size] for one in ids]
