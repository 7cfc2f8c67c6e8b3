"""Questions that lead to questions: who asked whom until here, and what the first of them still allows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError, LoopError

if TYPE_CHECKING:
    from collections.abc import Generator

    from claude_comms.engine._cost_cap import CostCap
    from claude_comms.types import Question

__all__ = ["Branch", "Lineage"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A question under way, as those see it that its instance asks in turn."""

    chain: tuple[str, ...]
    """The modules from the first that asked to the one that is asked now."""
    deadline: float
    """On `anyio.current_time()`'s clock."""
    cap: CostCap


class Lineage:
    """The questions under way, by the ids of their turns. At most `max_hops` of them lead to one another."""

    def __init__(self, max_hops: int) -> None:
        self._max_hops = max_hops
        self._branches: dict[str, Branch] = {}

    def above(self, question: Question) -> Branch | None:
        """The question in whose turn this one is asked, while that runs in this engine."""
        return None if question.asked_in is None else self._branches.get(question.asked_in)

    def chain(self, question: Question) -> tuple[str, ...]:
        """The modules that led to `question`, its target last.

        LoopError where the target is among them already, or there are more than `max_hops` questions in a row. What
        the question says of its way is believed only where the turn that it was asked in is not known here.
        """
        above = self.above(question)
        way = above.chain if above is not None else question.chain or (question.source,)
        if way[-1] != question.source:
            raise ConfigError(
                f"{question.source} cannot ask in a turn in which {way[-1]} answers."
                f" Ask as {way[-1]}, or leave chain and asked_in out."
            )
        chain = (*way, question.target)
        told = " → ".join(chain)
        if len(way) > 1 and question.target in way:
            raise LoopError(
                f"{question.target} is part of the question already: {told}. Answer from what is known, and say what is"
                " missing.",
                chain=chain,
            )
        if len(way) > self._max_hops:
            raise LoopError(
                f"more than {self._max_hops} questions would lead to one another: {told}. Answer from what is known,"
                " and say what is missing; the limit is the setting max_hops.",
                chain=chain,
            )
        return chain

    @contextmanager
    def entered(self, turn_id: str, branch: Branch) -> Generator[None]:
        """While this lasts, what is asked in that turn belongs to `branch`."""
        self._branches[turn_id] = branch
        try:
            yield
        finally:
            self._branches.pop(turn_id, None)
