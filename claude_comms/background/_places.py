"""Who goes where: the instances, who waits for one, and which takes whose question.

All decisions are made in `dispatch`, which never awaits: it runs after everything that could let a question go
ahead, and looks at the waiting ones, one of each pair in turn. So no wake-up can be lost, and none jumps the queue.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.background._detached import wait_for
from claude_comms.background._directory import Directory
from claude_comms.background._idle import IdleInstances
from claude_comms.background._lease import Lease
from claude_comms.background.instance import Instance, Notify
from claude_comms.errors import InstanceStateError, PoolError, PoolExhaustedError
from claude_comms.text import sentence
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.background._lease import Waiter
    from claude_comms.background._owner import SessionOwner
    from claude_comms.background._queue import Queue
    from claude_comms.background._restarts import RestartLimit
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.types import InstanceLimits, InstanceSpec

__all__ = ["Places"]

_LOG = logging.getLogger(__name__)
_TAKES_QUESTIONS = (InstanceState.IDLE, InstanceState.HIBERNATED)


class Places:
    """At most `most` instances, and the questions that share them. `on_taken` is told when one takes a question."""

    def __init__(
        self,
        *,
        most: int,
        waiting: Queue,
        queue_wait_s: float,
        stall_s: float | None,
        restart_limit: RestartLimit,
        on_event: Notify | None,
        on_taken: Callable[[InstanceSpec], object],
        clock: Callable[[], float],
    ) -> None:
        self.instances = Directory()
        self.idle = IdleInstances()
        self.holders: dict[str, Instance] = {}  # by thread_id: who holds this conversation
        self.leased: dict[str, Lease] = {}  # by thread_id: a conversation has one turn at a time
        self.waiting = waiting
        self.closing: set[SessionOwner] = set()
        self._most = most
        self._queue_wait_s = queue_wait_s
        self._stall_s = stall_s
        self._restart_limit = restart_limit
        self._on_event = on_event
        self._on_taken = on_taken
        self._clock = clock
        self._dispatching = False

    # --- waiting ---

    async def wait(self, waiter: Waiter, deadline: float | None) -> Lease:
        """The place, or why there is none. See `Pool.lease`."""
        wait_s = self._queue_wait_s
        if deadline is not None:
            wait_s = min(wait_s, deadline - waiter.queued_at)
        if wait_s <= 0:
            waiter.why = "its deadline had passed already"
            raise self._gave_up(waiter, deadline)
        self.waiting.add(waiter)
        self.dispatch()
        try:
            if not waiter.settled.is_set():
                self.waiting.check_room(waiter)
                await wait_for(waiter.settled, wait_s)
        except BaseException:
            if waiter.lease is not None:
                waiter.lease.release()
            raise
        finally:
            self.waiting.remove(waiter)
        if waiter.lease is None:
            raise waiter.error or self._gave_up(waiter, deadline)
        return waiter.lease

    def _gave_up(self, waiter: Waiter, deadline: float | None) -> ClaudeCommsError:
        return waiter.gave_up(deadline, limit=self._most, retry_after_s=self.waiting.retry_after_s())

    # --- deciding ---

    def dispatch(self) -> None:
        """Let go ahead whoever can."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            self.waiting.serve(self._serve)
        finally:
            self._dispatching = False

    def _serve(self, waiter: Waiter) -> bool:
        """Give the question its place, if there is one for it now."""
        if waiter.settled.is_set():
            return False
        instance = self._place(waiter)
        if instance is None or self._refused(waiter, instance):
            return False
        self._grant(waiter, instance)
        return True

    def _refused(self, waiter: Waiter, instance: Instance) -> bool:
        """Whether the question must not be sent to `instance`, although it could be."""
        error = instance.budget.exceeded
        if error is None and not instance.warm:
            error = self._restart_limit.refusal(instance.spec)
        if error is not None:
            waiter.refuse(error)
        return error is not None

    def _place(self, waiter: Waiter) -> Instance | None:
        """The instance that takes the question now, made if need be; None, with the reason, if it has to wait."""
        if waiter.thread_id in self.leased:
            waiter.why = f"an earlier question of conversation {waiter.thread_id} is still running"
            return None
        holder = waiter.only or self._holder(waiter)
        if holder is None:
            return self.idle.of(waiter.spec) or self._make_one(waiter)
        if holder.state in _TAKES_QUESTIONS:
            return holder
        waiter.why = f"instance {holder.instance_id} is {holder.state}"
        if holder.ended:
            wanted, state = "take a question", str(holder.state)
            why = "" if holder.failure is None else f" {sentence(str(holder.failure))}"
            error = InstanceStateError(
                f"{waiter.why}.{why} Start another one.", state=state, wanted=wanted, instance_id=holder.instance_id
            )
            waiter.refuse(error)
        return None

    def _holder(self, waiter: Waiter) -> Instance | None:
        """Who holds the conversation, if it is one that may go on with it: backend and model can have changed."""
        holder = self.holders.get(waiter.thread_id) if waiter.thread_id is not None else None
        return holder if holder is not None and holder.spec == waiter.spec else None

    def _make_one(self, waiter: Waiter) -> Instance | None:
        error = self._restart_limit.refusal(waiter.spec)
        if error is not None:
            waiter.refuse(error)
            return None
        if not self.make_room():
            waiter.why = f"all {self._most} instances are busy or paused"
            return None
        instance = self.make(waiter.spec, waiter.backend, limits=waiter.limits)
        instance.ready()
        return instance

    def make_room(self, *, hibernated_only: bool = False) -> bool:
        """See to it that there may be one more instance; whether that was possible."""
        if len(self.instances) < self._most:
            return True
        least = self.idle.least(hibernated_only=hibernated_only)
        if least is None:
            return False
        least.dismiss("its place was needed")
        return True

    def _grant(self, waiter: Waiter, instance: Instance) -> None:
        self.waiting.remove(waiter)
        instance.kept_ready = False
        if instance.thread_id != waiter.thread_id:
            self._let_go_of_conversation(instance)
            instance.thread_id = waiter.thread_id
        instance.reserve()
        self._on_taken(instance.spec)
        lease = Lease(instance, None, self, by_id=waiter.only is not None)
        if waiter.thread_id is not None:
            self.bind(lease, waiter.thread_id)
        waiter.grant(lease)

    # --- leases ---

    def bind(self, lease: Lease, thread_id: str) -> None:
        """For `Lease`: its conversation is this one. PoolError if it has another, or another lease has it."""
        if lease.thread_id is not None:
            raise PoolError(f"this lease is for conversation {lease.thread_id}, not {thread_id}. Take another one.")
        if thread_id in self.leased:
            raise PoolError(f"conversation {thread_id} has a turn running. Name it when taking the lease.")
        lease.thread_id = lease.instance.thread_id = thread_id
        if lease.by_id:
            lease.instance.own_thread_id = thread_id
        self.leased[thread_id] = lease
        self.holders[thread_id] = lease.instance

    def take_back(self, lease: Lease) -> None:
        """For `Lease`: it is over."""
        if lease.thread_id is not None:
            del self.leased[lease.thread_id]
        self.waiting.held(anyio.current_time() - lease.since)
        lease.instance.release()
        self.dispatch()

    def _let_go_of_conversation(self, instance: Instance) -> None:
        if instance.thread_id is not None and self.holders.get(instance.thread_id) is instance:
            del self.holders[instance.thread_id]
        instance.thread_id = None

    # --- instances ---

    def make(
        self,
        spec: InstanceSpec,
        backend: Backend,
        *,
        name: str | None = None,
        limits: InstanceLimits | None = None,
        instance_id: str | None = None,
    ) -> Instance:
        """One more instance; there must be room."""
        instance = Instance(
            spec,
            backend,
            name=name,
            instance_id=instance_id,
            limits=limits,
            stall_s=self._stall_s,
            notify=self._told,
            restart_limit=self._restart_limit,
            closing=self.closing,
            clock=self._clock,
        )
        self.instances.add(instance)
        return instance

    def _told(self, event: str, instance: Instance, /, **facts: Any) -> None:
        """Something has happened to an instance."""
        if instance.state in _TAKES_QUESTIONS:
            self.idle.add(instance)
        else:
            self.idle.discard(instance)
        if self._on_event is not None:
            try:
                self._on_event(event, instance, **facts)
            except Exception:  # noqa: BLE001  an observer's bug must not leave the pool half changed
                _LOG.exception("on_event failed on %s of instance %s", event, instance.instance_id)
        if instance.ended and self.instances.bury(instance):
            self._let_go_of_conversation(instance)
            self.dispatch()

    def hold(self, instance: Instance, thread_id: str) -> None:
        """The instance has this conversation from a former process, unless another one has it by now."""
        if thread_id not in self.holders:
            instance.thread_id = thread_id
            self.holders[thread_id] = instance

    def full(self, why: str) -> PoolExhaustedError:
        """The error where there is no room for one more."""
        return PoolExhaustedError(
            f"all {self._most} instances are {why}. Stop one, or raise max_instances.",
            limit=self._most,
            retry_after_s=self.waiting.retry_after_s(),
        )

    def sort_idle(self) -> None:
        """What some are worth has changed."""
        for instance in self.instances:
            if instance.state in _TAKES_QUESTIONS:
                self.idle.add(instance)
