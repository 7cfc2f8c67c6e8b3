"""One turn that the daemon carries for its clients, and how it ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from claude_comms.protocols import Turn
    from claude_comms.types import Question

__all__ = ["HostedTurn", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended: the values of a Reply, or those of an error."""

    reply: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class HostedTurn:
    """A turn by its id. `cursor` stands before its first event.

    One that is only in the event log (`elsewhere`) belongs to an earlier daemon, or to a job: its events tell its end.
    """

    def __init__(self, turn_id: str, cursor: int, question: Question | None = None) -> None:
        self.turn_id = turn_id
        self._asked = _digest(question)
        self.cursor = cursor
        self.elsewhere = False
        self.settled = anyio.Event()
        """Set once it is known whether the turn runs here."""
        self.ended = anyio.Event()
        self.outcome: Outcome | None = None
        self._turn: Turn | None = None

    def is_of(self, question: Question) -> bool:
        """Whether `question` is the one that was asked, as far as that is known."""
        return self._asked in (b"", _digest(question))

    def runs(self, turn: Turn) -> None:
        """The engine has taken the question."""
        self._turn = turn
        self.settled.set()

    def is_elsewhere(self) -> None:
        """The event log knows it already."""
        self.elsewhere = True
        self.cursor = 0
        self.settled.set()

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        self.outcome = outcome
        self._turn = None
        self.settled.set()
        self.ended.set()

    async def interrupt(self) -> bool:
        """Stop it; False where it does not run here any more."""
        await self.settled.wait()
        if self._turn is None:
            return False
        await self._turn.interrupt()
        return True


def _digest(question: Question | None) -> bytes:
    """What must be the same for a question to be the same: not its limits, which a client counts down."""
    if question is None:
        return b""
    said = (question.source, question.target, question.prompt, question.thread_id, question.data, question.schema)
    return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16).digest()
