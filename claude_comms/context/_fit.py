"""Making a prompt fit its budget: which details and which turns of the history stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.context._history import cut_to_fit
from claude_comms.errors import ContextTooLargeError
from claude_comms.types import TokenCount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_comms.context._history import Turn
    from claude_comms.types import TokenCounter

__all__ = ["Fitted", "Pieces", "fit"]

_DETAILS_SHARE = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """What there is to send. `message` makes the last message from the number of details and of turns cut."""

    system_tokens: int
    turns: Sequence[Turn]
    details: Sequence[str]
    """Best first."""
    question: str
    data: str
    message: Callable[[int, int], str]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent: so many details, without so many of the oldest turns."""

    details: int
    cut: int
    message: str
    total: TokenCount
    """Of the whole prompt."""


def fit(pieces: Pieces, budget_tokens: int, count: TokenCounter) -> Fitted:
    """Everything where it fits; else without the oldest turns and the least relevant details.

    When something must go, a quarter of the room is kept for details and the history is cut to the rest; details
    then take what is left. ContextTooLargeError where it does not fit without either.
    """
    sizes = [count(question.text).tokens + count(answer.text).tokens for question, answer in pieces.turns]
    fitted = _measure(pieces, sizes, len(pieces.details), 0, count)
    if fitted.total.tokens <= budget_tokens:
        return fitted
    least = _measure(pieces, sizes, 0, len(sizes), count)
    if least.total.tokens > budget_tokens:
        raise _too_large(pieces, least.total.tokens, budget_tokens, count)
    room = budget_tokens - least.total.tokens
    share = room // _DETAILS_SHARE if pieces.details else 0
    cut = cut_to_fit(sizes, room - share)
    details = _fitting(pieces.details, room - sum(sizes[cut:]), count)
    # A counter need not be additive, and the frames around pieces cost something: what counts is the whole.
    fitted = _measure(pieces, sizes, details, cut, count)
    while fitted.total.tokens > budget_tokens:
        details, cut = (details - 1, cut) if details else (0, cut + 1)
        fitted = _measure(pieces, sizes, details, cut, count)
    return fitted


def _measure(pieces: Pieces, sizes: Sequence[int], details: int, cut: int, count: TokenCounter) -> Fitted:
    message = pieces.message(details, cut)
    counted = count(message)
    tokens = pieces.system_tokens + sum(sizes[cut:]) + counted.tokens
    return Fitted(details, cut, message, TokenCount(tokens, counted.estimated))


def _fitting(details: Sequence[str], room: int, count: TokenCounter) -> int:
    """How many of the best details fit in `room` tokens."""
    for position, detail in enumerate(details):
        room -= count(detail).tokens
        if room < 0:
            return position
    return len(details)


def _too_large(pieces: Pieces, tokens: int, limit: int, count: TokenCounter) -> ContextTooLargeError:
    question, data = count(pieces.question).tokens, count(pieces.data).tokens if pieces.data else 0
    shares = [f"{pieces.system_tokens:,} describe the two modules", f"{question:,} are the question"]
    shares += [f"{data:,} its data"] if data else []
    rest = max(0, tokens - pieces.system_tokens - question - data)
    shares.append(f"{rest:,} what the template, its parameters and the components add")
    todo = "Send less data (it is never cut), or ask about a part of it" if data else "Shorten the largest of these"
    return ContextTooLargeError(
        f"{tokens:,} tokens are needed even without history and details, and {limit:,} are allowed:"
        f" {', '.join(shares)}. {todo}, or raise context_budget_tokens.",
        tokens=tokens,
        limit=limit,
    )
