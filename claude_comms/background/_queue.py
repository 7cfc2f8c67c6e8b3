"""The questions that wait: first come first served within a pair, and the pairs by turns."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from claude_comms.errors import PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claude_comms.background._lease import Waiter
    from claude_comms.types import Pair

__all__ = ["Queue"]

_FIRST_GUESS_S = 1.0
_LEAST_RETRY_S = 0.1


class Queue:
    """Everybody who waits for a place.

    A pair that was served goes to the end of the row, so one with a single question waits for at most one question
    of each other pair, however many those have.
    """

    def __init__(self, *, most: int, most_per_pair: int, places: int, longest_wait_s: float) -> None:
        self._most = most
        self._most_per_pair = most_per_pair
        self._places = places
        self._longest_wait_s = longest_wait_s
        self._usual_hold_s = _FIRST_GUESS_S
        self._count = 0
        self._pairs: OrderedDict[Pair, OrderedDict[int, Waiter]] = OrderedDict()
        self._wanted: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiter]:
        """All of them, pair by pair."""
        return (waiter for line in tuple(self._pairs.values()) for waiter in tuple(line.values()))

    def __contains__(self, waiter: Waiter) -> bool:
        return id(waiter) in self._pairs.get(waiter.spec.pair, ())

    def of(self, pair: Pair) -> int:
        """How many of a pair wait."""
        return len(self._pairs.get(pair, ()))

    def waiting_for(self, *wanted: str | None) -> int:
        """How many wait for an instance or a conversation, by its id."""
        return sum(self._wanted[one] for one in wanted if one is not None)

    def add(self, waiter: Waiter) -> None:
        """At the end of its pair's line."""
        self._pairs.setdefault(waiter.spec.pair, OrderedDict())[id(waiter)] = waiter
        self._count += 1
        if waiter.waits_for is not None:
            self._wanted[waiter.waits_for] += 1

    def remove(self, waiter: Waiter) -> None:
        """It waits no longer; does nothing where it does not wait."""
        line = self._pairs.get(waiter.spec.pair)
        if line is None or line.pop(id(waiter), None) is None:
            return
        self._count -= 1
        if waiter.waits_for is not None:
            self._wanted[waiter.waits_for] -= 1
            if not self._wanted[waiter.waits_for]:
                del self._wanted[waiter.waits_for]
        if not line:
            del self._pairs[waiter.spec.pair]

    def serve(self, take: Callable[[Waiter], bool]) -> None:
        """Offer every waiting question to `take`, one of each pair in turn, until none is left to offer.

        A pair of which one was taken goes to the end of the row; those before it keep their places.
        """
        lines = {pair: iter(tuple(line.values())) for pair, line in self._pairs.items()}
        while lines:
            for pair, line in tuple(lines.items()):
                if not any(take(waiter) for waiter in line):
                    del lines[pair]
                elif pair in self._pairs:
                    self._pairs.move_to_end(pair)

    # --- how long it takes ---

    def held(self, seconds: float) -> None:
        """A place was held for so long."""
        self._usual_hold_s += (seconds - self._usual_hold_s) / 8

    def retry_after_s(self) -> float:
        """When a place should be free for one more, going by how long questions usually take."""
        rounds = (self._count + 1) / self._places
        return min(max(self._usual_hold_s * max(1.0, rounds), _LEAST_RETRY_S), self._longest_wait_s)

    def check_room(self, waiter: Waiter) -> None:
        """PoolExhaustedError if too many others wait already: of its pair, or in all."""
        others, of_pair = self._count - 1, self.of(waiter.spec.pair) - 1
        retry_after_s = self.retry_after_s()
        if others >= self._most:
            raise PoolExhaustedError(
                f"{waiter.why}, and {others} questions are waiting, which is the most allowed."
                f" Try again in {retry_after_s:.3g} s, or raise max_instances or max_waiting.",
                limit=self._places,
                retry_after_s=retry_after_s,
            )
        if of_pair >= self._most_per_pair:
            raise PoolExhaustedError(
                f"{waiter.why}, and {of_pair} questions of {waiter.spec.pair} are waiting, which is the most allowed"
                f" for one pair. Try again in {retry_after_s:.3g} s, or raise max_waiting_per_pair.",
                limit=self._most_per_pair,
                retry_after_s=retry_after_s,
            )
