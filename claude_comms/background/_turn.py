"""One turn on its way through an instance: the request, where its pieces go, and how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import BackendError, DeadlineExceededError, TurnFailedError
from claude_comms.types import Delta, Retried

if TYPE_CHECKING:
    from claude_comms.types import Emit, InstanceSpec, TurnEvent, TurnRequest, TurnResult

__all__ = ["Turn"]


class Turn:
    """Handed to a session's owner. Without a request, the owner only opens the session, and warms it for `warm`."""

    __slots__ = (
        "_clock",
        "_emit",
        "_heard_at",
        "_passing_on",
        "_pieces",
        "abandoned",
        "cancelled",
        "deadline",
        "emit_error",
        "error",
        "finished",
        "request",
        "result",
        "stalled_s",
        "started",
        "warm",
    )

    def __init__(
        self,
        request: TurnRequest | None = None,
        emit: Emit | None = None,
        *,
        deadline: float | None = None,
        warm: TurnRequest | None = None,
    ) -> None:
        self.request = request
        self.warm = warm
        self.deadline = deadline
        self._clock = asyncio.get_running_loop().time  # anyio's clock, without its detours: each piece looks at it
        self.started = self._heard_at = self._clock()
        self.cancelled = False
        """Whether the owner was told to stop it."""
        self.abandoned = False
        """Whether it did not even stop then, and was let go of."""
        self.stalled_s: float | None = None
        """How long it had been silent when it was stopped for that."""
        self._passing_on = False
        self.finished = anyio.Event()
        self.result: TurnResult | None = None
        self.error: Exception | None = None
        self.emit_error: Exception | None = None
        """What the caller's own `emit` raised; it goes back to the caller unchanged."""
        self._emit = emit
        self._pieces: list[str] = []

    @property
    def partial(self) -> str:
        """The text that has come so far."""
        return "".join(self._pieces)

    async def emit(self, event: TurnEvent) -> None:
        """Keep the text and pass the event on; after the end, nothing gets through."""
        if self.finished.is_set() or self._emit is None:
            return
        if isinstance(event, Delta):
            self._pieces.append(event.text)
        self._passing_on = True
        try:
            await self._emit(event)
        except Exception as error:
            self.emit_error = error
            raise
        finally:
            self._passing_on = False
            # whoever waits before another try says for how long
            self._heard_at = self._clock() + (event.wait_s if isinstance(event, Retried) else 0.0)

    def silent_s(self, last_alive: float | None = None) -> float:
        """For how long nothing has come; not counting a caller that takes its time over an event.

        `last_alive` is when the session itself last heard something.
        """
        now = self._clock()
        heard_at = now if self._passing_on else self._heard_at
        return now - max(heard_at, last_alive or heard_at)

    def settle(self, *, result: TurnResult | None = None, error: Exception | None = None) -> None:
        """End the turn. Only the first call counts."""
        if not self.finished.is_set():
            self.result, self.error = result, self.emit_error or error
            self.finished.set()

    def outcome(self, spec: InstanceSpec, instance_id: str) -> TurnResult:
        """The result, or the error, which knows by now which instance it comes from and what text there was."""
        error = self.error
        if error is None and self.result is not None:
            return self.result
        if self.stalled_s is not None and self.emit_error is None:
            error = self._stalled(instance_id, self.stalled_s)
        if error is None:
            error = TurnFailedError(
                f"the turn of instance {instance_id} was stopped before its answer was complete. Ask again.",
                reason="interrupted",
                retryable=True,
            )
        if isinstance(error, BackendError):
            error.backend = error.backend or spec.backend
            error.instance_id = error.instance_id or instance_id
        if isinstance(error, BackendError | DeadlineExceededError):
            error.partial = error.partial or self.partial
        raise error

    def _stalled(self, instance_id: str, silent_s: float) -> TurnFailedError:
        error = TurnFailedError(
            f"nothing came from instance {instance_id} for {silent_s:.3g} s, so its turn was stopped. Ask again.",
            reason="stalled",
            retryable=True,
        )
        error.__cause__ = self.error
        if isinstance(self.error, BackendError | DeadlineExceededError):
            error.usage, error.partial = self.error.usage, self.error.partial
        return error

    def too_late(self, instance_id: str) -> DeadlineExceededError:
        """The error of a turn that did not end by its deadline, with all that is known of it."""
        if isinstance(self.error, DeadlineExceededError):
            error = self.error
        else:
            allowed = max(0.0, (self.deadline or self.started) - self.started)
            error = DeadlineExceededError(
                f"instance {instance_id} did not answer within {allowed:.3g} s. Ask again with a later deadline.",
                deadline_s=allowed,
            )
            error.__cause__ = self.error
        failed = self.error if isinstance(self.error, BackendError | DeadlineExceededError) else None
        error.usage = self.result.usage if self.result else failed.usage if failed else None
        error.partial = self.result.text if self.result else (failed.partial if failed else "") or self.partial
        return error
