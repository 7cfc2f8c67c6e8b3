"""One turn on its way through an instance: the request, where its pieces go, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import BackendError, DeadlineExceededError, TurnFailedError
from claude_comms.types import Delta

if TYPE_CHECKING:
    from claude_comms.types import Emit, InstanceSpec, TurnEvent, TurnRequest, TurnResult

__all__ = ["Turn"]


class Turn:
    """Handed to a session's owner. Without a request, the owner only opens the session."""

    __slots__ = (
        "_emit",
        "_pieces",
        "cancelled",
        "deadline",
        "emit_error",
        "error",
        "finished",
        "request",
        "result",
        "started",
    )

    def __init__(
        self, request: TurnRequest | None = None, emit: Emit | None = None, *, deadline: float | None = None
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.started = anyio.current_time()
        self.cancelled = False
        """Whether the owner was told to stop it."""
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
        try:
            await self._emit(event)
        except Exception as error:
            self.emit_error = error
            raise

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
