"""How much the server takes from anybody, and the bucket that counts requests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Limits", "TokenBucket"]

_KEPT_DESCRIPTORS = 48
"""For the stores, the log, and the like."""
_FEWEST_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What is beyond these is refused early, so that memory stays flat."""

    body_bytes: int = 16 << 20
    """Of a request, and of a message on the WebSocket."""
    bodies_bytes: int = 256 << 20
    """Of all requests that are served at one door, together."""
    head_bytes: int = 64 << 10
    """Of a request's line and headers."""
    connections: int = 256
    """Through all doors together."""
    requests_per_s: float = 2_000.0
    """On one connection, on average."""
    requests_burst: int = 4_000
    """On one connection, at once."""
    door_requests_per_s: float = 8_000.0
    """Through one door, on average, refused ones included."""
    door_requests_burst: int = 16_000
    turns_per_connection: int = 512
    """Questions that one WebSocket may wait for."""
    subscriptions_per_connection: int = 64
    head_wait_s: float = 30.0
    """How long a new connection may say nothing."""
    send_wait_s: float = 30.0
    """How long a client may take nothing of what it asked for."""
    ping_s: float = 15.0
    """A stream of events that has nothing to say shows so often that it is alive."""

    @classmethod
    def fitting(cls) -> Self:
        """Those of a process that may open only so many descriptors: connections leave some for everything else.

        Where none is left, a new connection cannot even be refused.
        """
        usual, descriptors = cls(), _descriptors()
        if descriptors is None:
            return usual
        spare = (descriptors - _KEPT_DESCRIPTORS) // 2
        return cls(connections=max(_FEWEST_CONNECTIONS, min(usual.connections, spare)))


def _descriptors() -> int | None:
    """How many this process may open; None where that is not limited, or not known."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class TokenBucket:
    """`burst` at once, and `rate` each second after that."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._left = float(burst)
        self._looked_at = clock()

    def take(self) -> float:
        """Take one. 0.0 where there was one; else how many seconds it takes until there is, and nothing is taken."""
        now = self._clock()
        self._left = min(self._burst, self._left + max(0.0, now - self._looked_at) * self._rate)
        self._looked_at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self._rate
