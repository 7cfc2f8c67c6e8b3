"""The pool: which instance answers which question, how many there are, and who has to wait.

`_places` decides, at once and for all; here is what others ask of it, and what is looked after in between.
"""

from __future__ import annotations

import builtins
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self, cast

import anyio

from claude_comms.background._detached import Detached, wait_for
from claude_comms.background._info import describe
from claude_comms.background._lease import Lease, Waiter
from claude_comms.background._memory import Measure, measure_trees
from claude_comms.background._places import Places
from claude_comms.background._queue import Queue
from claude_comms.background._readiness import Readiness
from claude_comms.background._restarts import RestartLimit
from claude_comms.background._supervision import Reclaiming, Supervision
from claude_comms.background.instance import Instance, Notify, Past
from claude_comms.errors import ConfigError, PoolError
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime
    from types import TracebackType

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.types import InstanceInfo, InstanceLimits, InstanceSpec, TurnRequest, Usage

__all__ = ["Lease", "Pool", "Reclaiming", "close_backend"]

_LOG = logging.getLogger(__name__)
_CLOSE_SESSION_S = 2.5
_CLOSE_BACKEND_S = 1.0
_LOOK_EVERY_S = 5.0
_PROVE_EVERY_S = 15.0
_PROVE_WITHIN_S = 3.5  # a check, which waits for it, has 5 s
_TAKES_QUESTIONS = (InstanceState.IDLE, InstanceState.HIBERNATED)


class Pool:
    """Owns the instances of one event loop. Use it as an async context manager, or call `close`.

    `backends` finds a backend by name and is asked once for each name; whoever made a backend closes it, after the
    pool (`close_backend` does so in bounded time).
    `max_waiting` questions may wait in all, `max_waiting_per_pair` of each pair; a turn silent for `stall_s` is
    stopped; `reclaiming` says when sessions are given up, `restart_limit` how often they may break.
    `on_event(type, instance, **facts)` is told what happens, see `Notify`; it may call `info`, nothing else of the
    pool. `measure` and `clock` (monotonic seconds) are replaced by tests.

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
        max_waiting_per_pair: int | None = None,
        stall_s: float | None = None,
        reclaiming: Reclaiming | None = None,
        restart_limit: RestartLimit | None = None,
        on_event: Notify | None = None,
        measure: Measure = measure_trees,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find_backend: Callable[[str], Backend | None] = (
            cast("Mapping[str, Backend]", backends).get if isinstance(backends, Mapping) else backends
        )
        self._backends: dict[str, Backend] = {}
        self._max_instances = max_instances
        self._queue_wait_s = queue_wait_s
        self._clock = clock
        self._restart_limit = restart_limit or RestartLimit(clock=clock)
        self._readiness = Readiness(self.list, self._start_ready, clock=clock)
        self._too_few_ready = anyio.Event()
        self._supervision = Supervision(self.list, reclaiming or Reclaiming(), measure=measure, clock=clock)
        self._places = Places(
            most=max_instances,
            waiting=Queue(
                most=max_waiting,
                most_per_pair=max_waiting if max_waiting_per_pair is None else max_waiting_per_pair,
                places=max_instances,
                longest_wait_s=queue_wait_s,
            ),
            queue_wait_s=queue_wait_s,
            stall_s=stall_s,
            restart_limit=self._restart_limit,
            on_event=on_event,
            on_taken=self._taken,
            clock=clock,
        )
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- questions ---

    async def lease(
        self,
        spec: InstanceSpec,
        thread_id: str | None = None,
        deadline: float | None = None,
        *,
        limits: InstanceLimits | None = None,
    ) -> Lease:
        """A place for one question of a conversation; `thread_id` is None for one that is to begin.

        The question goes to the instance that holds its conversation; else to an idle or hibernated one of the same
        spec; else to a new one, which gets `limits`, and for which the least worthy idle one is stopped if there are
        too many. Otherwise it waits its turn: until `deadline` (on `anyio.current_time()`'s clock;
        DeadlineExceededError) or for `queue_wait_s` seconds (PoolExhaustedError), and not at all when too many wait
        already (PoolExhaustedError at once). Raises what finding the backend raises, BudgetExceededError where its
        instance has used up what it may, and BackendCrashedError with `retry_after_s` where a session would have to
        be opened and too many of that spec have just broken.
        """
        self._check_open()
        return await self._places.wait(Waiter(spec, self._backend(spec.backend), thread_id, limits=limits), deadline)

    async def lease_instance(self, wanted: str, thread_id: str | None = None, deadline: float | None = None) -> Lease:
        """As `lease`, but a place on this very instance. InstanceStateError if it ends first."""
        self._check_open()
        instance = self.get(wanted)
        backend = self._backend(instance.spec.backend)
        return await self._places.wait(Waiter(instance.spec, backend, thread_id, instance), deadline)

    # --- instances ---

    async def start(
        self,
        spec: InstanceSpec,
        name: str | None = None,
        deadline: float | None = None,
        *,
        warm: TurnRequest | None = None,
        limits: InstanceLimits | None = None,
    ) -> Instance:
        """A new instance with its session open, ready for questions; warmed for one like `warm` where it can be.

        PoolExhaustedError if there is no room; ConfigError if the name is taken; what `Backend.open` and
        `Warmable.warm` raise; BackendCrashedError as in `lease`; DeadlineExceededError after `deadline`, or
        `queue_wait_s` seconds without one.
        """
        self._check_open()
        backend = self._backend(spec.backend)
        self._places.instances.check_free(name=name)
        refusal = self._restart_limit.refusal(spec)
        if refusal is not None:
            raise refusal
        if not self._places.make_room():
            raise self._places.full("busy or paused")
        instance = self._places.make(spec, backend, name=name, limits=limits)
        await instance.open(anyio.current_time() + self._queue_wait_s if deadline is None else deadline, warm=warm)
        if name is not None:
            self._places.instances.clear_failed(name)
        self._places.dispatch()
        return instance

    def adopt(
        self,
        spec: InstanceSpec,
        *,
        instance_id: str,
        name: str | None = None,
        limits: InstanceLimits | None = None,
        thread_id: str | None = None,
        state: InstanceState = InstanceState.HIBERNATED,
        turns: int = 0,
        restarts: int = 0,
        usage: Usage | None = None,
        created_at: datetime | None = None,
        last_used: datetime | None = None,
        own_thread_id: str | None = None,
        failure: ClaudeCommsError | None = None,
    ) -> Instance:
        """Take back an instance that a former process had: hibernated, or paused where it was `state` paused.

        Its next question opens a session; nothing is started now. Marks of its budget that were passed already are
        not told again. With `failure` it comes back as one that has failed, for that reason, until it is stopped: it
        answers nothing and takes no place. ConfigError if the id or the name is taken or nobody knows the backend;
        PoolExhaustedError if there are `max_instances`.
        """
        self._check_open()
        backend = self._backend(spec.backend)
        past = Past(turns, restarts, usage, created_at, last_used, own_thread_id)
        if failure is not None:
            self._places.instances.check_free(name=None, instance_id=instance_id)
            instance = self._places.make(spec, backend, name=name, limits=limits, instance_id=instance_id)
            instance.recall(past, failure=failure)
            return instance
        self._places.instances.check_free(name=name, instance_id=instance_id)
        if len(self._places.instances) >= self._max_instances:
            raise self._places.full("there already")
        instance = self._places.make(spec, backend, name=name, limits=limits, instance_id=instance_id)
        if thread_id is not None:
            self._places.hold(instance, thread_id)
        instance.recall(past, paused=state is InstanceState.PAUSED)
        self._places.dispatch()
        return instance

    def keep_ready(
        self,
        spec: InstanceSpec,
        count: int,
        make_request: Callable[[], Awaitable[TurnRequest]] | None = None,
        *,
        limits: InstanceLimits | None = None,
    ) -> None:
        """Keep `count` instances of `spec` idle, warm and without a conversation, while `supervise` runs.

        `make_request` makes the request that each is warmed for. When one takes a conversation another is started,
        where there is room that no other instance but a hibernated one without a name has to leave. They are the last
        whose sessions or places are reclaimed. 0 ends it.
        """
        self._readiness.keep(spec, count, make_request, limits)
        self._places.sort_idle()
        self._too_few_ready.set()

    @property
    def not_ready(self) -> Mapping[InstanceSpec, str]:
        """The specs of which one should be kept ready and could not be started when that was last tried, and why."""
        return self._readiness.failing

    async def _start_ready(
        self, spec: InstanceSpec, warm: TurnRequest | None, limits: InstanceLimits | None
    ) -> Instance | None:
        refusal = self._restart_limit.refusal(spec)
        if self._closed or refusal is not None or not self._places.make_room(hibernated_only=True):
            return None
        instance = self._places.make(spec, self._backend(spec.backend), limits=limits)
        instance.kept_ready = True
        await instance.open(anyio.current_time() + self._queue_wait_s, warm=warm)
        self._places.dispatch()
        return instance

    def get(self, wanted: str) -> Instance:
        """The instance with this id, name, or unique beginning of an id; also one that ended a while ago.

        InstanceNotFoundError if there is none, or several.
        """
        return self._places.instances.get(wanted)

    def list(self, *, ended: bool = False) -> list[Instance]:
        """The living instances, oldest first; with `ended`, also the latest 100 that stopped, and that failed."""
        return [*(self._places.instances.ended if ended else ()), *self._places.instances]

    def list_failed(self) -> builtins.list[Instance]:
        """The latest 100 that failed and have not been stopped since; they take no place of `max_instances`."""
        return builtins.list(self._places.instances.failed)

    def info(self, instance: Instance) -> InstanceInfo:
        """An instance as it stands, for others to see. `on_event` may call this."""
        return describe(instance, waiting=self._places.waiting.waiting_for(instance.instance_id, instance.thread_id))

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._places.waiting)

    def pause(self, wanted: str) -> Instance:
        """See `Instance.pause`; questions of the conversation it holds wait."""
        instance = self.get(wanted)
        instance.pause()
        return instance

    def resume(self, wanted: str) -> Instance:
        """See `Instance.resume`; the questions that wait for it go ahead."""
        instance = self.get(wanted)
        instance.resume()
        self._places.dispatch()
        return instance

    def hibernate(self, wanted: str, reason: str = "asked") -> Instance:
        """See `Instance.hibernate`; its next question opens a session again."""
        instance = self.get(wanted)
        instance.hibernate(reason)
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
        for waiter in tuple(self._places.waiting):
            waiter.refuse(_closed_error())
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for instance in self.list():
                    stopping.start_soon(instance.stop)
                for owner in tuple(self._places.closing):
                    stopping.start_soon(owner.wait, _CLOSE_SESSION_S)

    # --- supervision ---

    async def supervise(self, interval_s: float = _LOOK_EVERY_S, prove_every_s: float = _PROVE_EVERY_S) -> None:
        """Look after the instances until cancelled: every `interval_s` seconds `look`, every `prove_every_s` seconds
        `prove`, and at once `fill_ready` when one that was kept ready has taken a conversation.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_proving, prove_every_s)
            await self._keep_looking(interval_s)

    async def _keep_proving(self, interval_s: float) -> None:
        while True:
            await anyio.sleep(interval_s)
            try:
                await self.prove()
            except Exception:  # noqa: BLE001  as below
                _LOG.exception("the instances could not be proved alive this time; the next time follows")

    async def _keep_looking(self, interval_s: float) -> None:
        look_at = anyio.current_time() + interval_s
        while True:
            try:
                await wait_for(self._too_few_ready, max(0.0, look_at - anyio.current_time()))
                if anyio.current_time() >= look_at:
                    look_at = anyio.current_time() + interval_s
                    await self.look()
                else:
                    await self.fill_ready()
            except Exception:  # noqa: BLE001  one bad round must not end the watch over all instances
                _LOG.exception("supervision failed in this round; the next one follows")

    async def prove(self, timeout_s: float = _PROVE_WITHIN_S) -> None:
        """Have every session that has nothing to do show that it answers, at most so long, all at once.

        One that does not is given up: its instance hibernates, and the next question opens another.
        """
        async with anyio.create_task_group() as proving:
            for instance in self.list():
                proving.start_soon(instance.prove, timeout_s)

    async def look(self) -> None:
        """One round of supervision: measure memory, notice deaths, reclaim, fill up what is kept ready."""
        await self._supervision.look()
        await self.fill_ready()

    async def fill_ready(self) -> None:
        """Start what is missing of those to be kept ready, unless memory is short."""
        self._too_few_ready = anyio.Event()
        if not self._supervision.short_of_memory:
            await self._readiness.fill()

    # --- parts ---

    def _taken(self, spec: InstanceSpec) -> None:
        if self._readiness.wanted(spec):
            self._too_few_ready.set()

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
