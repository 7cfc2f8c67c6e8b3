"""Runs an instance's turns on its session, and sees to it that every turn ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

from claude_comms.background._detached import Detached, wait_for
from claude_comms.background._owner import SessionOwner
from claude_comms.background.backends.protocol import Provable
from claude_comms.errors import BackendCrashedError, BackendProtocolError

if TYPE_CHECKING:
    from claude_comms.background._turn import Turn
    from claude_comms.background.backends.protocol import Backend, Observable
    from claude_comms.types import InstanceSpec

__all__ = ["CLOSE_S", "INTERRUPT_S", "Runner"]

_LATE_INTERRUPT_S = 0.3  # these two together keep a late turn within half a second or so of its deadline
_CANCEL_S = 0.3
INTERRUPT_S = 1.0
CLOSE_S = 2.0


class Told(Protocol):
    """Who is told what becomes of the session: the instance. Nothing here awaits."""

    def session_opened(self) -> None:
        """A session is open."""

    def session_refused(self, error: Exception) -> None:
        """None could be opened."""

    def session_broke(self, reason: str) -> None:
        """It broke in a turn, and the next turn needs another one."""

    def session_died(self, reason: str) -> None:
        """It was found dead between turns, and has been dropped."""

    def turn_stalled(self, turn: Turn, silent_s: float) -> None:
        """Nothing has come for so long; the turn is stopped next."""


class Runner:
    """At most one session at a time, opened by the first turn, and one turn at a time on it.

    A session that broke is dropped, and closed in the background; `closing` holds its owner until then. A turn
    silent for `stall_s` is stopped.
    """

    __slots__ = ("_backend", "_closing", "_owner", "_spec", "_stall_s", "_told", "heard_at", "turn")

    def __init__(
        self, backend: Backend, spec: InstanceSpec, told: Told, *, stall_s: float | None, closing: set[SessionOwner]
    ) -> None:
        self._backend = backend
        self._spec = spec
        self._told = told
        self._stall_s = stall_s
        self._closing = closing
        self._owner: SessionOwner | None = None
        self.turn: Turn | None = None
        """The one that runs."""
        self.heard_at: float | None = None
        """When something last came in a turn, on `anyio.current_time()`'s clock."""

    @property
    def warm(self) -> bool:
        """Whether there is a session that is open and good."""
        return self._owner is not None and self._owner.opened and not self._owner.broken

    @property
    def observable(self) -> Observable | None:
        """The session, where it can be looked at."""
        return self._owner.observable if self._owner is not None else None

    # --- turns ---

    async def run(self, turn: Turn) -> bool:
        """Run it to its end; False if it had to be stopped because its deadline came."""
        self.turn = turn
        try:
            if turn.deadline is not None and turn.deadline <= anyio.current_time():
                return False
            return await self._run(turn)
        finally:
            self.turn = None

    async def _run(self, turn: Turn) -> bool:
        owner = self._ready_owner()
        try:
            owner.hand(turn)
            return await self._see_to_its_end(owner, turn)
        except BaseException:
            await self._halt(owner, turn, interrupt_s=0)
            raise
        finally:
            self._after(owner, turn)

    async def _see_to_its_end(self, owner: SessionOwner, turn: Turn) -> bool:
        """Wait for the turn's end, and bring it about at its deadline (then False) or when it stalls."""
        while not await wait_for(turn.finished, self._patience_s(turn)):
            if turn.deadline is not None and anyio.current_time() >= turn.deadline:
                await self._halt(owner, turn, interrupt_s=_LATE_INTERRUPT_S)
                return False
            silent_s = self._silent_s(turn)
            if self._stall_s is not None and silent_s >= self._stall_s and turn.request is not None:
                turn.stalled_s = silent_s
                self._told.turn_stalled(turn, silent_s)
                await self._halt(owner, turn, interrupt_s=INTERRUPT_S)
        return True

    def _patience_s(self, turn: Turn) -> float | None:
        """How long to wait before there is something to look at; None: as long as it takes."""
        left: list[float] = []
        if turn.deadline is not None:
            left.append(turn.deadline - anyio.current_time())
        if self._stall_s is not None and turn.request is not None:
            left.append(self._stall_s - self._silent_s(turn))
        return max(0.0, min(left)) if left else None

    def _silent_s(self, turn: Turn) -> float:
        session = self.observable
        return turn.silent_s(session.last_alive if session is not None else None)

    def _ready_owner(self) -> SessionOwner:
        if self._owner is None or self._owner.broken:
            self._owner = SessionOwner(
                self._backend, self._spec, on_open=self._told.session_opened, on_death=self._died
            )
        return self._owner

    def _after(self, owner: SessionOwner, turn: Turn) -> None:
        if owner.opened and not turn.abandoned:
            self.heard_at = anyio.current_time() - max(0.0, turn.silent_s())
        if owner.broken and owner is self._owner:
            self.drop()
        fault = _fault(owner, turn)
        if fault is not None:
            self._told.session_broke(fault)
        if not owner.opened and turn.error is not None and not turn.cancelled:
            self._told.session_refused(turn.error)

    # --- between turns ---

    async def prove(self, timeout_s: float) -> str | None:
        """Have a session that has nothing to do show that it answers; why it is no good any more, or None.

        None also where it cannot show that, or has been asked, dropped, or heard of meanwhile.
        """
        owner = self._owner
        session = owner.session if owner is not None and self.warm else None
        if owner is None or self.turn is not None or not isinstance(session, Provable):
            return None
        asked_at = anyio.current_time()
        why = await _proof(session, timeout_s)
        heard_at = owner.observable.last_alive if owner.observable is not None else None
        if heard_at is not None and heard_at > asked_at:
            return None
        return why if owner is self._owner and self.warm and self.turn is None else None

    # --- ends ---

    async def halt(self) -> bool:
        """End the running turn, in bounded time; whether there was one."""
        if self.turn is None or self._owner is None:
            return False
        await self._halt(self._owner, self.turn, interrupt_s=INTERRUPT_S)
        return True

    async def _halt(self, owner: SessionOwner, turn: Turn, *, interrupt_s: float) -> None:
        """End `turn` by the mildest means that works, in at most `interrupt_s` + 0.3 s, whatever the session does."""
        if turn.finished.is_set():
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
                turn.abandoned = True
                owner.let_go()
                turn.settle()

    def found_dead(self, reason: str) -> None:
        """Somebody who looked says that the process is gone. In a turn, the turn's own error tells."""
        if self.turn is None and self._owner is not None and self.warm:
            self._owner.lose(reason)

    def _died(self, owner: SessionOwner, reason: str) -> None:
        if owner is self._owner and self.turn is None:
            self.drop()
            self._told.session_died(reason)

    def drop(self) -> None:
        """Let go of the session; it is closed in the background."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.retire(CLOSE_S, self._closing)

    async def close(self) -> None:
        """Close the session, in bounded time."""
        owner = self._owner
        self.drop()
        if owner is not None:
            await owner.wait(CLOSE_S + 0.2)


async def _proof(session: Provable, timeout_s: float) -> str | None:
    """Why there was none; None where there was."""
    why: str | None = f"it did not answer within {timeout_s:g} s."

    async def attempt() -> None:
        nonlocal why
        try:
            await session.prove(timeout_s)
            why = None
        except TimeoutError:
            return
        except Exception as error:  # noqa: BLE001  whatever a backend's code raises, it was no proof
            why = str(error) or type(error).__name__

    proving = Detached(attempt())
    try:
        await proving.wait(timeout_s + _CANCEL_S)
    finally:
        proving.let_go()
    return why


def _fault(owner: SessionOwner, turn: Turn) -> str | None:
    """What in this turn broke the session; None where nothing did, or we did it ourselves."""
    if turn.abandoned:
        return "it did not stop when it was told to."
    if turn.stalled_s is not None and owner.broken:
        return f"nothing came from it for {turn.stalled_s:.3g} s."
    if isinstance(turn.error, BackendCrashedError | BackendProtocolError) and not turn.cancelled:
        return str(turn.error)
    return None
