"""A place for a question, and the wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

import anyio

from claude_comms.errors import DeadlineExceededError, PoolError, PoolExhaustedError

if TYPE_CHECKING:
    from types import TracebackType

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.background.instance import Instance
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.types import Emit, InstanceLimits, InstanceSpec, TurnRequest, TurnResult

__all__ = ["Landlord", "Lease", "Waiter"]


class Landlord(Protocol):
    """Who gives out leases: the pool."""

    def bind(self, lease: Lease, thread_id: str) -> None:
        """The lease's question turns out to belong to this conversation."""

    def take_back(self, lease: Lease) -> None:
        """The lease is over."""


class Lease:
    """A place for one question: the instance is busy for it, and its conversation is closed to others.

    Use it as a context manager, or call `release`. One question may take several turns (a repair).
    """

    __slots__ = ("_landlord", "by_id", "instance", "since", "thread_id")

    def __init__(self, instance: Instance, thread_id: str | None, landlord: Landlord, *, by_id: bool = False) -> None:
        self.instance = instance
        self.thread_id = thread_id
        """None for a conversation that is to begin, until the first turn names it."""
        self.by_id = by_id
        """Whether this very instance was wanted: the conversation is then its own."""
        self.since = anyio.current_time()
        self._landlord: Landlord | None = landlord

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Run one turn; see `Instance.ask`. PoolError once released, or for another conversation."""
        if self._landlord is None:
            raise PoolError("this lease has been released. Take another one for another question.")
        if self.thread_id != request.thread_id:
            self._landlord.bind(self, request.thread_id)
        return await self.instance.ask(request, emit)

    def release(self) -> None:
        """Give the place back. May be called twice."""
        landlord, self._landlord = self._landlord, None
        if landlord is not None:
            landlord.take_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Waiter:
    """One question that wants a place. The pool settles it with a lease or an error, or it gives up."""

    __slots__ = ("backend", "error", "lease", "limits", "only", "queued_at", "settled", "spec", "thread_id", "why")

    def __init__(
        self,
        spec: InstanceSpec,
        backend: Backend,
        thread_id: str | None,
        only: Instance | None = None,
        limits: InstanceLimits | None = None,
    ) -> None:
        self.spec = spec
        self.limits = limits
        """Of an instance that is made for it."""
        self.backend = backend
        self.thread_id = thread_id
        self.only = only
        """The one instance it wants, if it must be that one."""
        self.queued_at = anyio.current_time()
        self.settled = anyio.Event()
        self.lease: Lease | None = None
        self.error: ClaudeCommsError | None = None
        self.why = ""
        """What it waits for, in words."""

    @property
    def waits_for(self) -> str | None:
        """The id of the instance or conversation that it is for; None for the next place there is."""
        return self.only.instance_id if self.only is not None else self.thread_id

    def grant(self, lease: Lease) -> None:
        """Here is your place."""
        self.lease = lease
        self.settled.set()

    def refuse(self, error: ClaudeCommsError) -> None:
        """There will be none."""
        self.error = error
        self.settled.set()

    def gave_up(self, deadline: float | None, *, limit: int, retry_after_s: float) -> ClaudeCommsError:
        """The error of a wait that was too long: for the caller's deadline, or for the pool."""
        now = anyio.current_time()
        text = f"no place for this question within {now - self.queued_at:.3g} s: {self.why}."
        if deadline is not None and now >= deadline:
            allowed = max(0.0, deadline - self.queued_at)
            return DeadlineExceededError(f"{text} Ask again with a later deadline.", deadline_s=allowed)
        return PoolExhaustedError(
            f"{text} Try again in {retry_after_s:.3g} s.", limit=limit, retry_after_s=retry_after_s
        )
