"""How fast an answer comes, over the last while."""

from __future__ import annotations

from collections import deque

__all__ = ["CHARACTERS_PER_TOKEN", "RateHistory"]

CHARACTERS_PER_TOKEN = 4.0
"""What an answer's tokens are estimated by while it streams: events carry text, and counts come with the end."""


class RateHistory:
    """Estimated tokens a second, kept for the last `span_s` whole seconds. Moments are seconds of one clock."""

    __slots__ = ("_characters", "_second")

    def __init__(self, span_s: int = 60) -> None:
        self._characters: deque[int] = deque([0] * (span_s + 1), maxlen=span_s + 1)
        self._second: int | None = None

    def add(self, characters: int, now_s: float) -> None:
        """So much text has come at `now_s`."""
        self._move_to(now_s)
        self._characters[-1] += characters

    def rates(self, count: int, now_s: float, *, each_s: int = 1) -> list[float]:
        """The last `count` rates, oldest first, each over `each_s` seconds; the second under way counts once over."""
        self._move_to(now_s)
        whole = list(self._characters)[:-1]
        kept = whole[-count * each_s :]
        kept = [0] * (count * each_s - len(kept)) + kept
        per_s = CHARACTERS_PER_TOKEN * each_s
        return [sum(kept[at : at + each_s]) / per_s for at in range(0, len(kept), each_s)]

    def current(self, now_s: float, *, over_s: int = 3) -> float:
        """Over the last `over_s` whole seconds."""
        return self.rates(1, now_s, each_s=over_s)[0]

    def _move_to(self, now_s: float) -> None:
        second = int(now_s)
        if self._second is None:
            self._second = second
        for _ in range(min(second - self._second, len(self._characters))):
            self._characters.append(0)
        self._second = max(second, self._second)
