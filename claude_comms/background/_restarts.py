"""How often sessions may break before it is no use to open further ones."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from claude_comms.errors import BackendCrashedError
from claude_comms.text import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.types import InstanceSpec

__all__ = ["RestartLimit"]

_MOST = 5
_WITHIN_S = 180.0


class RestartLimit:
    """Counts the faults of each spec: at most five within three minutes, over all instances of it.

    By spec, not by instance: else a pair whose process always crashes would go on crashing in one new instance after
    the other. Then no session of that spec is opened until the first of the five is three minutes old; one that is
    open goes on answering, and other specs are not concerned.
    """

    def __init__(
        self, *, most: int = _MOST, within_s: float = _WITHIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._within_s = within_s
        self._clock = clock
        self._faults: dict[InstanceSpec, deque[tuple[float, str]]] = {}

    def note(self, spec: InstanceSpec, reason: str) -> BackendCrashedError | None:
        """One more fault; the reason to give up, where that was one too many."""
        self._forget_old()
        self._faults.setdefault(spec, deque(maxlen=self._most)).append((self._clock(), reason))
        return self.refusal(spec)

    def refusal(self, spec: InstanceSpec) -> BackendCrashedError | None:
        """Why no session of `spec` is opened now, and when it may be again; None where it may be."""
        faults = self._faults.get(spec)
        if faults is None or len(faults) < self._most:
            return None
        wait_s = faults[0][0] + self._within_s - self._clock()
        if wait_s <= 0:
            return None
        return BackendCrashedError(
            f"the sessions of {spec.pair} on {spec.backend} broke {self._most} times within {self._within_s:g} s,"
            f" and no further one is opened for now. The last time: {sentence(faults[-1][1])}"
            f" Mend that, or try again in {wait_s:.3g} s with a new instance of the pair.",
            backend=spec.backend,
            retryable=False,
            retry_after_s=wait_s,
        )

    def _forget_old(self) -> None:
        oldest = self._clock() - self._within_s
        for spec in [spec for spec, faults in self._faults.items() if faults[-1][0] <= oldest]:
            del self._faults[spec]
