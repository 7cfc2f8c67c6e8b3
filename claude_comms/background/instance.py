"""An instance: one pair's place in the pool, with a backend's session behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.background._detached import Detached, wait_for
from claude_comms.background._owner import SessionOwner
from claude_comms.background._turn import Turn
from claude_comms.background.states import Action, Lifecycle
from claude_comms.errors import ClaudeCommsError, InstanceStateError
from claude_comms.types import InstanceState, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.types import Emit, InstanceSpec, TurnRequest, TurnResult

__all__ = ["Instance"]

_LATE_INTERRUPT_S = 0.3  # these two together keep a late turn within half a second or so of its deadline
_CANCEL_S = 0.3
_INTERRUPT_S = 1.0
_CLOSE_S = 2.0

_EVENTS = {Action.READY: "instance.started", Action.RESUME: "instance.resumed", Action.FAIL: "instance.failed"}
_STATE_EVENTS = {
    InstanceState.IDLE: "instance.idle",
    InstanceState.BUSY: "instance.busy",
    InstanceState.PAUSED: "instance.paused",
    InstanceState.STOPPED: "instance.stopped",
}


def _ignore(_type: str, _instance: Instance, **_facts: Any) -> None:
    pass


class Instance:
    """Answers the questions of one pair, one conversation at a time.

    A session is opened with the first turn, or by `open`, and belongs to one owner task; others hand it turns.
    A session that broke is replaced by a fresh one for the next turn; an instance that cannot open one has failed.
    Everything here is for one event loop and not thread-safe.
    """

    __slots__ = (
        "_backend", "_closing", "_lifecycle", "_notify", "_owner", "_turn", "created_at", "failure", "instance_id",
        "last_used", "name", "spec", "thread_id", "turns",
    )  # fmt: skip

    def __init__(
        self,
        spec: InstanceSpec,
        backend: Backend,
        *,
        name: str | None = None,
        notify: Callable[..., None] = _ignore,
        closing: set[SessionOwner] | None = None,
    ) -> None:
        """`closing` collects the owners whose sessions are being closed in the background."""
        self.instance_id = new_id("i")
        self.name = name
        self.spec = spec
        self.created_at = self.last_used = datetime.now(UTC)
        self.turns = 0
        """How many turns it has run, failed ones included."""
        self.thread_id: str | None = None
        """The conversation it holds."""
        self.failure: ClaudeCommsError | None = None
        """Why it failed, once it has."""
        self._backend = backend
        self._notify = notify
        self._closing: set[SessionOwner] = set() if closing is None else closing
        self._lifecycle = Lifecycle(self.instance_id)
        self._owner: SessionOwner | None = None
        self._turn: Turn | None = None

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

    # --- its life ---

    def ready(self) -> None:
        """Let questions come; their first turn opens the session."""
        self._apply(Action.READY)

    async def open(self, deadline: float | None = None) -> None:
        """Open the session now and become idle. What `Backend.open` raises is raised here, and it has failed.

        `deadline` is on `anyio.current_time()`'s clock: DeadlineExceededError.
        """
        turn = self._turn = Turn(deadline=deadline)
        try:
            in_time = await self._run(turn)
            if not in_time:
                raise turn.too_late(self.instance_id)
            if self._owner is None or not self._owner.opened:
                turn.outcome(self.spec, self.instance_id)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._turn = None
        self.ready()

    def reserve(self) -> None:
        """Become busy for one question; `release` must follow."""
        self._apply(Action.RESERVE)

    def release(self) -> None:
        """The question is finished: become idle, or paused if that was asked for meanwhile."""
        self.last_used = datetime.now(UTC)
        if not self.ended:
            self._apply(Action.RELEASE)

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
        if self._turn is None:
            return False
        await self._halt(self._turn, interrupt_s=_INTERRUPT_S)
        return True

    async def stop(self) -> None:
        """Interrupt what runs, close the session, and never answer again; in at most 4 s or so."""
        self._apply(Action.STOP)
        if self._turn is not None:
            await self._halt(self._turn, interrupt_s=_INTERRUPT_S)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.retire(_CLOSE_S, self._closing)
            await owner.wait(_CLOSE_S + 0.2)

    def dismiss(self) -> None:
        """Stop an instance that has nothing to do. Its session is closed in the background."""
        self._apply(Action.STOP)
        self._drop_session()

    # --- its turns ---

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Run one turn. Only while reserved, and one at a time.

        Raises what the session raises. At `request.deadline` the turn is interrupted, then cancelled, then
        abandoned, and ends with DeadlineExceededError within a second. Cancelling the caller stops the turn.
        """
        if self.state is not InstanceState.BUSY or self._turn is not None:
            raise InstanceStateError(
                f"instance {self.instance_id} is {self.state} and cannot run this turn."
                " Lease it from the pool, and ask once at a time.",
                state=str(self.state),
                wanted="ask",
                instance_id=self.instance_id,
            )
        self.thread_id = request.thread_id
        turn = self._turn = Turn(request, emit, deadline=request.deadline)
        self.turns += 1
        try:
            in_time = await self._run(turn)
        finally:
            self._turn = None
        if not in_time:
            raise turn.too_late(self.instance_id)
        return turn.outcome(self.spec, self.instance_id)

    async def _run(self, turn: Turn) -> bool:
        """Have the owner run it; False if it had to be stopped because the deadline came."""
        left = None if turn.deadline is None else turn.deadline - anyio.current_time()
        if left is not None and left <= 0:
            return False
        owner = self._ready_owner()
        try:
            owner.hand(turn)
            in_time = await wait_for(turn.finished, left)
            if not in_time:
                await self._halt(turn, interrupt_s=_LATE_INTERRUPT_S)
        except BaseException:
            await self._halt(turn, interrupt_s=0)
            raise
        finally:
            self._after(owner, turn)
        return in_time

    def _ready_owner(self) -> SessionOwner:
        if self._owner is None or self._owner.broken:
            self._owner = SessionOwner(self._backend, self.spec)
        return self._owner

    def _after(self, owner: SessionOwner, turn: Turn) -> None:
        if not owner.opened and turn.error is not None and not turn.cancelled:
            self._fail(turn.error)
        if owner.broken and owner is self._owner:
            self._drop_session()

    def _drop_session(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.retire(_CLOSE_S, self._closing)

    async def _halt(self, turn: Turn, *, interrupt_s: float) -> None:
        """End `turn` by the mildest means that works, in at most `interrupt_s` + 0.3 s, whatever the session does."""
        owner = self._owner
        if owner is None or turn.finished.is_set():
            return
        with anyio.CancelScope(shield=True):
            session = owner.session
            if interrupt_s and session is not None and self._backend.features.interrupt:
                plea = Detached(session.interrupt())
                await wait_for(turn.finished, interrupt_s)
                plea.let_go()
            if not turn.finished.is_set():
                owner.cancel(turn)
                await wait_for(turn.finished, _CANCEL_S)
            if not turn.finished.is_set():
                owner.let_go()
                turn.settle()

    # --- telling ---

    def _apply(self, action: Action) -> None:
        before = self.state
        state = self._lifecycle.apply(action)
        if before is not state:
            self._notify(_EVENTS.get(action) or _STATE_EVENTS[state], self)

    def _fail(self, error: BaseException) -> None:
        if self._lifecycle.allows(Action.FAIL):
            self.failure = error if isinstance(error, ClaudeCommsError) else None
            self._lifecycle.apply(Action.FAIL)
            self._notify("instance.failed", self, reason=str(error) or type(error).__name__)
        self._drop_session()
