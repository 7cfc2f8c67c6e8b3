"""The pool: which instance answers which question, how many there are, and who has to wait.

All decisions are made in `_dispatch`, which never awaits: it runs after everything that could let a question go
ahead, and looks at the waiting ones oldest first. So no wake-up can be lost, and none jumps the queue.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

import anyio

from claude_comms.background._detached import Detached, wait_for
from claude_comms.background._idle import IdleInstances
from claude_comms.background._lease import Lease, Waiter
from claude_comms.background.instance import Instance, Notify
from claude_comms.errors import (
    ConfigError,
    InstanceNotFoundError,
    InstanceStateError,
    PoolError,
    PoolExhaustedError,
)
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from types import TracebackType

    from claude_comms.background._owner import SessionOwner
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.types import InstanceSpec

__all__ = ["Lease", "Pool", "close_backend"]

_LOG = logging.getLogger(__name__)
_ENDED_KEPT = 100
_CLOSE_SESSION_S = 2.5
_CLOSE_BACKEND_S = 1.0


class Pool:
    """Owns the instances of one event loop. Use it as an async context manager, or call `close`.

    `backends` finds a backend by name and is asked once for each name; whoever made a backend closes it, after the
    pool (`close_backend` does so in bounded time).
    `on_event(type, instance, **facts)` is told of ``instance.started``, ``busy``, ``idle``, ``paused``,
    ``resumed``, ``failed`` and ``stopped`` as they happen; it must not call the pool.

    Sessions are opened, asked and closed in tasks of their own, not in a task group: a group has to wait for its
    children, and a session may be one that never listens. `close` sees to it that they end, in bounded time.
    """

    def __init__(
        self,
        backends: Callable[[str], Backend] | Mapping[str, Backend],
        *,
        max_instances: int,
        max_waiting: int,
        queue_wait_s: float,
        on_event: Notify | None = None,
    ) -> None:
        self._find_backend: Callable[[str], Backend | None] = (
            cast("Mapping[str, Backend]", backends).get if isinstance(backends, Mapping) else backends
        )
        self._backends: dict[str, Backend] = {}
        self._max_instances = max_instances
        self._max_waiting = max_waiting
        self._queue_wait_s = queue_wait_s
        self._on_event = on_event
        self._instances: dict[str, Instance] = {}
        self._ended: deque[Instance] = deque(maxlen=_ENDED_KEPT)
        self._idle = IdleInstances()
        self._holders: dict[str, Instance] = {}  # by thread_id: who holds this conversation
        self._leased: dict[str, Lease] = {}  # by thread_id: a conversation has one turn at a time
        self._waiting: list[Waiter] = []  # in the order they came
        self._closing: set[SessionOwner] = set()
        self._usual_hold_s = 1.0
        self._dispatching = False
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- questions ---

    async def lease(self, spec: InstanceSpec, thread_id: str | None = None, deadline: float | None = None) -> Lease:
        """A place for one question of a conversation; `thread_id` is None for one that is to begin.

        The question goes to the instance that holds its conversation; else to an idle one of the same spec; else
        to a new one, for which the least recently used idle one is stopped if there are too many. Otherwise it
        waits its turn: until `deadline` (on `anyio.current_time()`'s clock; DeadlineExceededError) or for
        `queue_wait_s` seconds (PoolExhaustedError), and not at all when too many wait already
        (PoolExhaustedError at once). Raises what finding the backend raises.
        """
        return await self._wait(Waiter(spec, self._backend(spec.backend), thread_id), deadline)

    async def lease_instance(self, wanted: str, thread_id: str | None = None, deadline: float | None = None) -> Lease:
        """As `lease`, but a place on this very instance. InstanceStateError if it ends first."""
        instance = self.get(wanted)
        return await self._wait(
            Waiter(instance.spec, self._backend(instance.spec.backend), thread_id, instance), deadline
        )

    async def _wait(self, waiter: Waiter, deadline: float | None) -> Lease:
        self._check_open()
        wait_s = self._queue_wait_s
        if deadline is not None:
            wait_s = min(wait_s, deadline - waiter.queued_at)
        if wait_s <= 0:
            waiter.why = "its deadline had passed already"
            raise self._gave_up(waiter, deadline)
        waiting_already = len(self._waiting)
        self._waiting.append(waiter)
        self._dispatch()
        try:
            if not waiter.settled.is_set():
                self._check_room_to_wait(waiting_already, waiter)
                await wait_for(waiter.settled, wait_s)
        except BaseException:
            if waiter.lease is not None:
                waiter.lease.release()
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if waiter.lease is None:
            raise waiter.error or self._gave_up(waiter, deadline)
        return waiter.lease

    def _check_room_to_wait(self, waiting_already: int, waiter: Waiter) -> None:
        if waiting_already >= self._max_waiting:
            retry_after_s = self._retry_after_s()
            raise PoolExhaustedError(
                f"{waiter.why}, and {waiting_already} questions are waiting, which is the most allowed."
                f" Try again in {retry_after_s:.3g} s, or raise max_instances or max_waiting.",
                limit=self._max_instances,
                retry_after_s=retry_after_s,
            )

    def _gave_up(self, waiter: Waiter, deadline: float | None) -> ClaudeCommsError:
        return waiter.gave_up(deadline, limit=self._max_instances, retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> float:
        """When a place should be free for one more, going by how long questions usually take."""
        rounds = (len(self._waiting) + 1) / self._max_instances
        return min(max(self._usual_hold_s * max(1.0, rounds), 0.1), self._queue_wait_s)

    # --- who goes where ---

    def _dispatch(self) -> None:
        if self._dispatching:
            return
        self._dispatching = True
        try:
            for waiter in tuple(self._waiting):
                instance = self._place(waiter)
                if instance is not None:
                    self._grant(waiter, instance)
        finally:
            self._dispatching = False

    def _place(self, waiter: Waiter) -> Instance | None:
        """The instance that takes the question now, made if need be; None, with the reason, if it has to wait."""
        if waiter.thread_id in self._leased:
            waiter.why = f"an earlier question of conversation {waiter.thread_id} is still running"
            return None
        holder = waiter.only or self._holder(waiter)
        if holder is None:
            return self._idle.of(waiter.spec) or self._make_one(waiter)
        if holder.state is InstanceState.IDLE:
            return holder
        waiter.why = f"instance {holder.instance_id} is {holder.state}"
        if holder.ended:
            wanted, state = "take a question", str(holder.state)
            error = InstanceStateError(
                f"{waiter.why}. Start another one.", state=state, wanted=wanted, instance_id=holder.instance_id
            )
            waiter.refuse(error)
        return None

    def _holder(self, waiter: Waiter) -> Instance | None:
        """Who holds the conversation, if it is one that may go on with it: backend and model can have changed."""
        holder = self._holders.get(waiter.thread_id) if waiter.thread_id is not None else None
        return holder if holder is not None and holder.spec == waiter.spec else None

    def _make_one(self, waiter: Waiter) -> Instance | None:
        if not self._make_room():
            waiter.why = f"all {self._max_instances} instances are busy or paused"
            return None
        instance = self._add(Instance(waiter.spec, waiter.backend, notify=self._told, closing=self._closing))
        instance.ready()
        return instance

    def _make_room(self) -> bool:
        if len(self._instances) < self._max_instances:
            return True
        oldest = self._idle.oldest()
        if oldest is None:
            return False
        oldest.dismiss()
        return True

    def _grant(self, waiter: Waiter, instance: Instance) -> None:
        self._waiting.remove(waiter)
        instance.reserve()
        if instance.thread_id != waiter.thread_id:
            self._let_go_of_conversation(instance)
        lease = Lease(instance, None, self)
        if waiter.thread_id is not None:
            self.bind(lease, waiter.thread_id)
        waiter.grant(lease)

    def bind(self, lease: Lease, thread_id: str) -> None:
        """For `Lease`: its conversation is this one. PoolError if it has another, or another lease has it."""
        if lease.thread_id is not None:
            raise PoolError(f"this lease is for conversation {lease.thread_id}, not {thread_id}. Take another one.")
        if thread_id in self._leased:
            raise PoolError(f"conversation {thread_id} has a turn running. Name it when taking the lease.")
        lease.thread_id = lease.instance.thread_id = thread_id
        self._leased[thread_id] = lease
        self._holders[thread_id] = lease.instance

    def take_back(self, lease: Lease) -> None:
        """For `Lease`: it is over."""
        if lease.thread_id is not None:
            del self._leased[lease.thread_id]
        held_s = anyio.current_time() - lease.since
        self._usual_hold_s += (held_s - self._usual_hold_s) / 8
        lease.instance.release()
        self._dispatch()

    def _let_go_of_conversation(self, instance: Instance) -> None:
        if instance.thread_id is not None and self._holders.get(instance.thread_id) is instance:
            del self._holders[instance.thread_id]
        instance.thread_id = None

    # --- instances ---

    async def start(self, spec: InstanceSpec, name: str | None = None, deadline: float | None = None) -> Instance:
        """A new instance with its session open, ready for questions.

        PoolExhaustedError if there is no room; ConfigError if the name is taken; what `Backend.open` raises;
        DeadlineExceededError after `deadline`, or `queue_wait_s` seconds without one.
        """
        self._check_open()
        backend = self._backend(spec.backend)
        if name is not None and any(instance.name == name for instance in self._instances.values()):
            raise ConfigError(f"an instance named {name!r} is running. Choose another name, or stop that one.")
        if not self._make_room():
            raise PoolExhaustedError(
                f"all {self._max_instances} instances are busy or paused. Stop one, or raise max_instances.",
                limit=self._max_instances,
                retry_after_s=self._retry_after_s(),
            )
        instance = self._add(Instance(spec, backend, name=name, notify=self._told, closing=self._closing))
        await instance.open(anyio.current_time() + self._queue_wait_s if deadline is None else deadline)
        self._dispatch()
        return instance

    def get(self, wanted: str) -> Instance:
        """The instance with this id, name, or unique beginning of an id; also one that ended a while ago.

        InstanceNotFoundError if there is none, or several.
        """
        known = [*self._instances.values(), *reversed(self._ended)]
        for instance in known:
            if wanted in (instance.instance_id, instance.name):
                return instance
        fitting = [instance for instance in known if wanted and instance.instance_id.startswith(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            ids = ", ".join(instance.instance_id for instance in fitting[:10])
            raise InstanceNotFoundError(
                f"{wanted!r} fits several instances: {ids}. Give more of the id.", instance_id=wanted
            )
        raise InstanceNotFoundError(f"no instance {wanted!r}. See: claude-comms list-instances", instance_id=wanted)

    def list(self, *, ended: bool = False) -> list[Instance]:
        """The living instances, oldest first; with `ended`, also the latest 100 that stopped or failed."""
        return [*(self._ended if ended else ()), *self._instances.values()]

    def pause(self, wanted: str) -> Instance:
        """See `Instance.pause`; questions of the conversation it holds wait."""
        instance = self.get(wanted)
        instance.pause()
        return instance

    def resume(self, wanted: str) -> Instance:
        """See `Instance.resume`; the questions that wait for it go ahead."""
        instance = self.get(wanted)
        instance.resume()
        self._dispatch()
        return instance

    async def interrupt(self, wanted: str) -> bool:
        """See `Instance.interrupt`."""
        return await self.get(wanted).interrupt()

    async def stop(self, wanted: str) -> Instance:
        """See `Instance.stop`; the conversation it held is not lost and goes on elsewhere."""
        instance = self.get(wanted)
        await instance.stop()
        return instance

    async def close(self) -> None:
        """Refuse who waits and stop every instance, in at most 5 s. May be called twice."""
        self._closed = True
        for waiter in tuple(self._waiting):
            waiter.refuse(_closed_error())
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for instance in self.list():
                    stopping.start_soon(instance.stop)
                for owner in tuple(self._closing):
                    stopping.start_soon(owner.wait, _CLOSE_SESSION_S)

    def _add(self, instance: Instance) -> Instance:
        self._instances[instance.instance_id] = instance
        return instance

    def _told(self, event: str, instance: Instance, /, **facts: Any) -> None:
        """An instance's state has changed."""
        if instance.state is InstanceState.IDLE:
            self._idle.add(instance)
        else:
            self._idle.discard(instance)
        if self._on_event is not None:
            try:
                self._on_event(event, instance, **facts)
            except Exception:  # noqa: BLE001  an observer's bug must not leave the pool half changed
                _LOG.exception("on_event failed on %s of instance %s", event, instance.instance_id)
        if instance.ended and self._instances.pop(instance.instance_id, None) is not None:
            self._ended.append(instance)
            self._let_go_of_conversation(instance)
            self._dispatch()

    def _backend(self, name: str) -> Backend:
        backend = self._backends.get(name)
        if backend is None:
            backend = self._find_backend(name)
            if backend is None:
                raise ConfigError(f"this pool has no backend {name!r}.")
            self._backends[name] = backend
        return backend

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()


def _closed_error() -> PoolError:
    return PoolError("the pool is closed. Open another one.")


async def close_backend(backend: Backend) -> None:
    """Close a backend, and let go of it where that takes longer than a second."""
    closing = Detached(backend.close())
    if not await closing.wait(_CLOSE_BACKEND_S):
        closing.let_go()
