"""What of a thread is sent, and where it is cut when it is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.types import HistoryMessage, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Turn", "cut_to_fit", "flatten", "whole_turns"]

Turn = tuple[HistoryMessage, HistoryMessage]
"""A question and its answer."""


def whole_turns(history: Sequence[HistoryMessage]) -> tuple[list[Turn], int]:
    """The questions of `history` with the answer right behind them, and how many messages have no partner."""
    turns: list[Turn] = []
    asked: HistoryMessage | None = None
    for message in history:
        if message.role == Role.QUESTION:
            asked = message
        elif asked is not None:
            turns.append((asked, message))
            asked = None
    return turns, len(history) - 2 * len(turns)


def flatten(turns: Sequence[Turn]) -> tuple[HistoryMessage, ...]:
    """The messages of `turns`, oldest first."""
    return tuple(message for turn in turns for message in turn)


def cut_to_fit(sizes: Sequence[int], room: int) -> int:
    """How many of the oldest turns to leave out so that the rest, of `sizes` tokens each, fit in `room`.

    The history is the prefix that the model's cache holds: each time its start moves, all of it is read anew at
    the full price. So a long history is cut by several turns at once. The start then stays where it is until
    that many new turns have come, and all but the last turn come from the cache.
    """
    left = sum(sizes)
    needed = 0
    while left > room and needed < len(sizes):
        left -= sizes[needed]
        needed += 1
    quantum = _quantum(len(sizes))
    rounded = -(-needed // quantum) * quantum
    return rounded if rounded < len(sizes) else needed


def _quantum(turns: int) -> int:
    # Powers of two: a growing thread goes from one quantum to the next without losing its place.
    return 4 if turns >= 16 else 2 if turns >= 8 else 1
