"""What a backend is: it opens sessions, and a session answers one question at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.types import BackendFeatures, Emit, InstanceSpec, TurnRequest, TurnResult

__all__ = ["Backend", "BackendHealth", "Mortal", "Observable", "Provable", "Session", "Warmable"]


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """Whether a backend can be used here, why, and what to do if not. Found without asking a model."""

    usable: bool
    reason: str
    hint: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Versions, paths, addresses: for `doctor`. Never secrets."""


class Session(Protocol):
    """One instance's live connection to its backend. `ask` and `close` are called by one task only.

    A session may also be `Warmable` and `Observable`, where it has a process of its own.
    """

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Answer, handing pieces to `emit` as they come. The result's text equals all deltas joined.

        Returns complete answers only. Everything else is raised: `TurnFailedError` with the text that had come,
        `BackendCrashedError`, `BackendProtocolError`, `BackendUnavailableError`, `DeadlineExceededError`, and the
        `BudgetExceededError` of the request's `check_spent`; with `usage` and `partial` set as far as they are
        known. No exception of a library gets out.
        On cancellation it stops the turn and lets the cancellation pass.
        """
        ...

    async def interrupt(self) -> None:
        """Stop the running turn: its `ask` raises TurnFailedError with reason ``interrupted``.

        May be called by any task; without a running turn it does nothing.
        """
        ...

    async def close(self) -> None:
        """Let go of everything, in bounded time. May be called twice."""
        ...


@runtime_checkable
class Warmable(Protocol):
    """A session that can be made ready before it is asked. Optional: look with `isinstance`."""

    async def warm(self, request: TurnRequest) -> None:
        """Start what the first question of a new conversation will need, and ask nothing.

        `request` is that question as far as it is known: what counts are `prompt.system`, `model` and
        `max_output_tokens`; `prompt.history` is empty and `session_handle` None. Where it is ready already, nothing
        happens; what an earlier conversation left is kept. Called by the task that asks. Raises what the start of a
        question raises; what was begun is stopped then, also when it is cancelled, and the session can be asked.
        """
        ...


@runtime_checkable
class Observable(Protocol):
    """A session with a process to watch. Optional: look with `isinstance`. Both may be read by any task."""

    @property
    def pid(self) -> int | None:
        """The root of its process tree, while one runs."""
        ...

    @property
    def last_alive(self) -> float | None:
        """When the process last wrote anything, on `anyio.current_time()`'s clock; None while there is none."""
        ...


@runtime_checkable
class Provable(Protocol):
    """A session that can show between turns that it still answers. Optional: look with `isinstance`."""

    async def prove(self, timeout_s: float) -> None:
        """Return once its process has answered something that costs nothing and changes nothing.

        TimeoutError where it has not within `timeout_s`; any other error says that it will not. Without a process
        there is nothing to prove. May be called by any task, also while a turn begins, and be let go of at any time.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """How instances think. One object serves all instances of a process."""

    @property
    def name(self) -> str:
        """As settings, replies and the store call it."""
        ...

    @property
    def features(self) -> BackendFeatures:
        """What its sessions can do."""
        ...

    async def open(self, spec: InstanceSpec) -> Session:
        """A session for one instance. BackendUnavailableError says how to install or log in;
        PermissionDeniedError where `spec.grants` holds what this backend cannot grant.
        """
        ...

    async def health(self) -> BackendHealth:
        """Whether it can be used; never raises."""
        ...

    async def close(self) -> None:
        """Let go of what the sessions shared, in bounded time. May be called twice."""
        ...


@runtime_checkable
class Mortal(Protocol):
    """A session that tells at once when its process dies. Optional: others are looked at from time to time."""

    async def died(self) -> str:
        """Return, with the reason in words, as soon as a process of it has ended that nobody ended; else wait.

        Awaited by a task of its own for as long as the session is open, again after each return, and cancelled
        before the session is closed. A death in a turn is told by the turn's own error.
        """
        ...
