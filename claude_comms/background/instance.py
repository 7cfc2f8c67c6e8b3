"""An instance: one pair's place in the pool, with a backend's session behind it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from claude_comms.background._budget import Budget
from claude_comms.background._restarts import RestartLimit
from claude_comms.background._runner import Runner
from claude_comms.background._turn import Turn
from claude_comms.background.states import Action, Lifecycle
from claude_comms.errors import ClaudeCommsError, InstanceStateError, PoolError
from claude_comms.text import sentence
from claude_comms.types import InstanceLimits, InstanceState, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.background._owner import SessionOwner
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.types import Emit, InstanceSpec, TurnRequest, TurnResult, Usage

__all__ = ["Instance", "Notify", "Past"]

_EVENTS = {Action.READY: "instance.started", Action.RESUME: "instance.resumed", Action.FAIL: "instance.failed"}
_STATE_EVENTS = {
    InstanceState.IDLE: "instance.idle",
    InstanceState.BUSY: "instance.busy",
    InstanceState.HIBERNATED: "instance.hibernated",
    InstanceState.PAUSED: "instance.paused",
    InstanceState.STOPPED: "instance.stopped",
}
_MIB = 1024 * 1024
_NO_LIMITS = InstanceLimits()


@dataclass(frozen=True, slots=True)
class Past:
    """What an instance did in a former process."""

    turns: int = 0
    restarts: int = 0
    usage: Usage | None = None
    created_at: datetime | None = None
    last_used: datetime | None = None
    own_thread_id: str | None = None


class Notify(Protocol):
    """Told of what happens to an instance, as an event's type, with further facts by name."""

    def __call__(self, event: str, instance: Instance, /, **facts: Any) -> object:
        """Called once it has happened. It must not steer the instance or the pool, and may look at them.

        ``instance.started``, ``busy``, ``idle``, ``paused``, ``resumed``: no facts. ``instance.hibernated``,
        ``restarted`` (another session is open in place of one that broke), ``failed``, ``stopped``: `reason`.
        ``turn.stalled``: `request`, the TurnRequest, and `silent_s`. ``budget.warned``, ``budget.exceeded``:
        `budget`, `limit`, `spent`.
        """


def _ignore(_event: str, _instance: Instance, /, **_facts: Any) -> None:
    pass


class Instance:
    """Answers the questions of one pair, one conversation at a time.

    A session is opened with the first turn, or by `open`, and belongs to one owner task; others hand it turns.
    A session that broke is replaced by a fresh one for the next turn, as long as `restart_limit` allows; an instance
    that cannot open one has failed. One that hibernates has none until its next turn.
    Everything here is for one event loop and not thread-safe.
    """

    __slots__ = (
        "_clock", "_lifecycle", "_notify", "_opened_since", "_pid_seen", "_replace_for", "_restart_limit",
        "_restart_reason", "_rss_bytes", "_runner", "budget", "created_at", "failure", "idle_since", "instance_id",
        "kept_ready", "last_used", "limits", "name", "own_thread_id", "restarts", "spec", "thread_id", "turns",
    )  # fmt: skip

    def __init__(
        self,
        spec: InstanceSpec,
        backend: Backend,
        *,
        name: str | None = None,
        instance_id: str | None = None,
        limits: InstanceLimits | None = None,
        stall_s: float | None = None,
        notify: Notify = _ignore,
        restart_limit: RestartLimit | None = None,
        closing: set[SessionOwner] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stall_s`: a turn silent for so long is stopped. `closing` collects the owners whose sessions are being
        closed in the background. `clock` says how long it has been idle or open; turns have anyio's.
        """
        self.instance_id = instance_id or new_id("i")
        self.name = name
        self.spec = spec
        self.limits = limits or _NO_LIMITS
        self.budget = Budget(self.limits)
        """What it has used, and may."""
        self.created_at = self.last_used = datetime.now(UTC)
        self.idle_since: float | None = None
        """Since when it has had nothing to do, on its clock; None while it has."""
        self.turns = 0
        """How many turns it has run, failed ones included."""
        self.restarts = 0
        """How often a session was opened in place of one that broke or was replaced."""
        self.thread_id: str | None = None
        """The conversation it holds."""
        self.own_thread_id: str | None = None
        """The conversation in which it was last asked by its id."""
        self.kept_ready = False
        """Whether it was started ahead of questions and waits for its first conversation."""
        self.failure: ClaudeCommsError | None = None
        """Why it failed, once it has."""
        self._notify = notify
        self._restart_limit = restart_limit or RestartLimit()
        self._clock = clock
        self._lifecycle = Lifecycle(self.instance_id)
        self._runner = Runner(backend, spec, self, stall_s=stall_s, closing=set() if closing is None else closing)
        self._restart_reason: str | None = None
        """Why the next session that is opened is a restart."""
        self._opened_since = 0.0
        self._rss_bytes: int | None = None
        self._pid_seen: int | None = None
        self._replace_for: str | None = None
        """Why its session is to be replaced once it has nothing to do."""

    def __repr__(self) -> str:
        return f"<Instance {self.instance_id} {self.spec.pair} {self.state}>"

    @property
    def state(self) -> InstanceState:
        """Where it stands."""
        return self._lifecycle.state

    @property
    def pausing(self) -> bool:
        """Whether it is busy and will be paused once its question is finished."""
        return self._lifecycle.pausing

    @property
    def ended(self) -> bool:
        """Whether it has stopped or failed."""
        return self._lifecycle.ended

    @property
    def warm(self) -> bool:
        """Whether it has a session that is open and good."""
        return self._runner.warm

    @property
    def opened_since(self) -> float | None:
        """Since when its session is open, on its clock; None without one."""
        return self._opened_since if self.warm else None

    @property
    def rss_bytes(self) -> int | None:
        """Resident memory of its process tree when that was last measured; None without a process."""
        return self._rss_bytes if self.warm else None

    @property
    def pid(self) -> int | None:
        """Its process, where its session has one and tells it."""
        session = self._runner.observable
        return session.pid if session is not None else None

    @property
    def last_alive(self) -> float | None:
        """When it last proved alive, on `anyio.current_time()`'s clock: an event in a turn, a byte, an answer."""
        session = self._runner.observable
        told = session.last_alive if session is not None else None
        return max((moment for moment in (told, self._runner.heard_at) if moment is not None), default=None)

    @property
    def usage(self) -> Usage:
        """Of all its turns, as far as `charge` was told; its cost is None once a turn had no known price."""
        return self.budget.usage

    # --- its life ---

    def ready(self) -> None:
        """Let questions come; their first turn opens the session."""
        self._apply(Action.READY)

    async def open(self, deadline: float | None = None, *, warm: TurnRequest | None = None) -> None:
        """Open the session now and become idle. What `Backend.open` raises is raised here, and it has failed.

        With `warm`, a session that can do so gets ready for a question like that one, likewise.
        `deadline` is on `anyio.current_time()`'s clock: DeadlineExceededError.
        """
        turn = Turn(deadline=deadline, warm=warm)
        try:
            if not await self._runner.run(turn):
                raise turn.too_late(self.instance_id)
            if not self.warm or turn.error is not None:
                turn.outcome(self.spec, self.instance_id)
        except BaseException as error:
            self._fail(error)
            raise
        self.ready()

    def reserve(self) -> None:
        """Become busy for one question; `release` must follow."""
        self._apply(Action.RESERVE)

    def release(self) -> None:
        """The question is finished: become idle, or paused if that was asked for meanwhile."""
        self.last_used = datetime.now(UTC)
        if self.ended:
            return
        self._pid_seen = self.pid
        self._apply(Action.RELEASE)
        if self.limits.max_turns is not None and self.turns >= self.limits.max_turns:
            self.dismiss(f"it has run its {self.limits.max_turns} turns")
        elif self._replace_for is not None:
            self.replace(self._replace_for)

    def pause(self) -> None:
        """Take no more questions until `resume`. A running one is finished first."""
        self._apply(Action.PAUSE)

    def resume(self) -> None:
        """Take questions again."""
        self._apply(Action.RESUME)

    async def interrupt(self) -> bool:
        """Stop the running turn, in bounded time: its asker gets TurnFailedError with reason ``interrupted``.

        Returns whether there was one. A backend that cannot interrupt, or does not obey, is cancelled.
        """
        return await self._runner.halt()

    async def stop(self) -> None:
        """Interrupt what runs, close the session, and never answer again; in at most 4 s or so."""
        self._apply(Action.STOP, reason="asked")
        await self._runner.halt()
        await self._runner.close()

    def dismiss(self, reason: str) -> None:
        """Stop an instance that has nothing to do. Its session is closed in the background."""
        self._apply(Action.STOP, drop=True, reason=reason)

    def hibernate(self, reason: str) -> None:
        """Give up the session, and open it again with the next question: its conversation is kept.

        A paused instance stays paused. InstanceStateError for one that is busy, starting, or ended.
        """
        self._apply(Action.HIBERNATE, drop=True, reason=reason)

    def replace(self, reason: str) -> None:
        """Have another session opened with the next question in place of this one; a busy one when it is finished."""
        if self.state is InstanceState.BUSY:
            self._replace_for = reason
        elif self.warm and self._lifecycle.allows(Action.HIBERNATE):
            self._restart_reason = reason
            self.hibernate(reason)

    def recall(self, past: Past, *, paused: bool = False, failure: ClaudeCommsError | None = None) -> None:
        """Begin hibernated, or paused and without a session, or as one that has failed: it is known from a former
        process.
        """
        self.turns, self.restarts = past.turns, past.restarts
        self.created_at = past.created_at or self.created_at
        self.last_used = past.last_used or self.created_at
        self.own_thread_id = past.own_thread_id
        self.budget = Budget(self.limits, past.usage)
        if failure is not None:
            self._fail(failure)
            return
        self._lifecycle.apply(Action.HIBERNATE)
        if paused:
            self._lifecycle.apply(Action.PAUSE)
        self.idle_since = self._clock()
        self._notify(_STATE_EVENTS[self.state], self, reason="taken back from a former process")

    async def prove(self, timeout_s: float) -> None:
        """Where it has nothing to do, have its session show that it answers, and give up one that does not.

        The next question opens another one. That is no fault: a machine under load may be slow.
        """
        if self.state not in (InstanceState.IDLE, InstanceState.PAUSED):
            return
        why = await self._runner.prove(timeout_s)
        if why is None:
            return
        if self._lifecycle.allows(Action.HIBERNATE):
            self.replace(why)
        elif not self.ended:  # just reserved: its turn, which has not begun, opens another session
            self._restart_reason = why
            self._runner.drop()

    # --- what it takes ---

    def charge(self, usage: Usage) -> None:
        """Add what a turn has used. Tells of ``budget.warned`` (80 %) and ``budget.exceeded``, once each."""
        for crossing in self.budget.charge(usage):
            self._notify(crossing.event, self, budget=crossing.budget, limit=crossing.limit, spent=crossing.spent)

    def watched_pid(self) -> int | None:
        """Its process, for who looks from time to time.

        One whose session no longer has the process that it had, and does not say why, hibernates: that is how a
        session gives up an idle process by itself. It is no fault.
        """
        before, self._pid_seen = self._pid_seen, self.pid
        if before is not None and self._pid_seen is None and self.state in (InstanceState.IDLE, InstanceState.PAUSED):
            self.hibernate("its process has ended")
        return self._pid_seen

    def measured(self, pid: int, rss_bytes: int | None) -> None:
        """The process tree under `pid` takes so much; None: there is no such process any more.

        A process that is gone is a fault, unless a turn runs, whose error tells. One beyond `limits.max_memory_mb` is
        replaced between turns.
        """
        if pid != self.pid:
            return
        if rss_bytes is None:
            self._runner.found_dead("its process is gone.")
            return
        self._rss_bytes = rss_bytes
        most = self.limits.max_memory_mb
        if most is not None and rss_bytes > most * _MIB:
            self.replace(f"its processes took {rss_bytes / _MIB:.0f} MiB, and {most} are allowed")

    # --- its turns ---

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Run one turn. Only while reserved, and one at a time.

        Raises what the session raises. At `request.deadline` the turn is interrupted, then cancelled, then
        abandoned, and ends with DeadlineExceededError within a second. Cancelling the caller stops the turn.
        """
        if self.state is not InstanceState.BUSY or self._runner.turn is not None:
            raise InstanceStateError(
                f"instance {self.instance_id} is {self.state} and cannot run this turn."
                " Lease it from the pool, and ask once at a time.",
                state=str(self.state),
                wanted="ask",
                instance_id=self.instance_id,
            )
        self.thread_id = request.thread_id
        turn = Turn(request, emit, deadline=request.deadline)
        self.turns += 1
        if not await self._runner.run(turn):
            raise turn.too_late(self.instance_id)
        return turn.outcome(self.spec, self.instance_id)

    # --- what its runner tells ---

    def session_opened(self) -> None:
        """For its runner."""
        self._opened_since = self._clock()
        self._rss_bytes = self._replace_for = self._pid_seen = None
        reason, self._restart_reason = self._restart_reason, None
        if reason is not None:
            self.restarts += 1
            self._notify("instance.restarted", self, reason=reason)

    def session_refused(self, error: Exception) -> None:
        """For its runner."""
        self._fail(error)

    def session_broke(self, reason: str) -> None:
        """For its runner."""
        self._restart_reason = reason
        too_many = self._restart_limit.note(self.spec, reason)
        if too_many is not None:
            too_many.instance_id = self.instance_id
            self._fail(too_many)

    def session_died(self, reason: str) -> None:
        """For its runner."""
        self.session_broke(reason)
        if self.state is InstanceState.IDLE:
            self.hibernate(reason)

    def turn_stalled(self, turn: Turn, silent_s: float) -> None:
        """For its runner."""
        self._notify("turn.stalled", self, request=turn.request, silent_s=silent_s)

    # --- telling ---

    def _apply(self, action: Action, *, drop: bool = False, **facts: Any) -> None:
        before = self.state
        state = self._lifecycle.apply(action)
        if drop:
            self._runner.drop()
        if state is not InstanceState.BUSY:
            self.idle_since = self._clock() if self.idle_since is None else self.idle_since
        else:
            self.idle_since = None
        if before is not state:
            self._notify(_EVENTS.get(action) or _STATE_EVENTS[state], self, **facts)

    def _fail(self, error: BaseException) -> None:
        self._runner.drop()
        if self._lifecycle.allows(Action.FAIL):
            self.failure = error if isinstance(error, ClaudeCommsError) else _start_given_up(error)
            self._lifecycle.apply(Action.FAIL)
            self._notify("instance.failed", self, reason=str(self.failure))


def _start_given_up(error: BaseException) -> PoolError:
    why = "it was cancelled" if isinstance(error, asyncio.CancelledError) else str(error) or type(error).__name__
    return PoolError(f"its session was not opened: {sentence(why)} Start another one.")
