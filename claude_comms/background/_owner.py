"""The one task that opens a session, asks it, and closes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from claude_comms.background._detached import Detached
from claude_comms.background.backends.protocol import Mortal, Observable, Warmable
from claude_comms.errors import BackendCrashedError, BackendProtocolError, ClaudeCommsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.background._turn import Turn
    from claude_comms.background.backends.protocol import Backend, Session
    from claude_comms.types import InstanceSpec, TurnResult

__all__ = ["SessionOwner"]


class SessionOwner:
    """Owns one session from its opening, at the first turn, to its closing. Others reach it by `hand`.

    It lives as long as its session is good. After a crash, a protocol error, an unexpected exception or a
    cancelled turn nobody knows what the session would say next: it is `broken`, and this task closes it and ends.
    """

    __slots__ = (
        "_backend", "_closing", "_on_death", "_on_open", "_send", "_spec", "_task", "_turn", "_turns", "_watch",
        "broken", "observable", "opened", "session",
    )  # fmt: skip

    def __init__(
        self,
        backend: Backend,
        spec: InstanceSpec,
        *,
        on_open: Callable[[], object],
        on_death: Callable[[SessionOwner, str], object],
    ) -> None:
        """`on_open` is called once the session is there; `on_death`, with the reason, if it dies between turns."""
        self._backend = backend
        self._spec = spec
        self._on_open = on_open
        self._on_death = on_death
        self._watch: Detached | None = None
        self._turn: Turn | None = None
        self._closing: set[SessionOwner] | None = None
        self.session: Session | None = None
        self.observable: Observable | None = None
        """The session, where it can be looked at."""
        self.opened = False
        """Whether the backend has ever given us the session."""
        self.broken = False
        self._send, self._turns = anyio.create_memory_object_stream["Turn"](1)
        self._task = Detached(self._own(), then=self._ended)

    def hand(self, turn: Turn) -> None:
        """Give it the next turn; the one before must have ended."""
        self._turn = turn
        self._send.send_nowait(turn)

    def cancel(self, turn: Turn) -> None:
        """Cancel `turn`, if it still runs."""
        if turn is self._turn and not turn.finished.is_set():
            turn.cancelled = self.broken = True
            self._task.cancel()

    def retire(self, within_s: float, closing: set[SessionOwner]) -> None:
        """Take no more turns, close the session, and be let go of if that takes longer than `within_s`.

        It is in `closing` until then.
        """
        self._send.close()
        if self._watch is not None:
            self._watch.let_go()
        if not self._task.done:
            self._closing = closing
            closing.add(self)
        self._task.let_go_in(within_s)

    def let_go(self) -> None:
        """Drop everything as it stands: it would not listen."""
        self.broken = True
        self._task.let_go()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most so long, and say whether it came."""
        return await self._task.wait(timeout_s)

    async def _own(self) -> None:
        try:
            async for turn in self._turns:
                await self._take(turn)
                if self.broken:
                    break
        except asyncio.CancelledError:  # the event loop is being shut down
            await self._close()
            raise
        await self._close()

    async def _take(self, turn: Turn) -> None:
        try:
            result = await self._run(turn)
        except asyncio.CancelledError:
            self.broken = True
            if not turn.cancelled:
                raise
            _uncancel()
            turn.settle()
        except (BackendCrashedError, BackendProtocolError) as error:
            self.broken = True
            turn.settle(error=error)
        except ClaudeCommsError as error:
            turn.settle(error=error)
        except Exception as error:  # noqa: BLE001  a bug of the backend must not end as a library's exception
            self.broken = True
            turn.settle(error=self._unexpected(error))
        else:
            turn.settle(result=result)

    async def _run(self, turn: Turn) -> TurnResult | None:
        if self.session is None:
            await self._open()
        session = self.session
        if turn.warm is not None and isinstance(session, Warmable):
            await session.warm(turn.warm)
        return await session.ask(turn.request, turn.emit) if turn.request and session else None

    async def _open(self) -> None:
        self.session = await self._backend.open(self._spec)
        self.observable = self.session if isinstance(self.session, Observable) else None
        self.opened = True
        self._on_open()
        if isinstance(self.session, Mortal):
            self._watch = Detached(self._watch_over(self.session))

    async def _watch_over(self, session: Mortal) -> None:
        """A death in a turn is told by the turn's own error."""
        while not self.broken:
            reason = await session.died()
            turn = self._turn
            if turn is not None and not turn.finished.is_set():
                await turn.finished.wait()
            elif not self.broken:
                self.lose(reason)

    def lose(self, reason: str) -> None:
        """The session is found dead between turns."""
        self.broken = True
        self._on_death(self, reason)

    async def _close(self) -> None:
        if self.session is None:
            return
        try:
            await self.session.close()
        except Exception:  # noqa: BLE001  it is gone, and nobody can do anything about how it went
            return

    def _ended(self) -> None:
        self._send.close()
        self._turns.close()
        self.broken = True
        if self._watch is not None:
            self._watch.let_go()
        if self._closing is not None:
            self._closing.discard(self)
        if self._turn is not None:
            self._turn.settle()

    def _unexpected(self, error: Exception) -> BackendCrashedError:
        failed = BackendCrashedError(
            f"backend {self._spec.backend} failed in a way it should not: {type(error).__name__}: {error}."
            " Report this to whoever wrote it; a fresh session is used for the next question.",
            backend=self._spec.backend,
        )
        failed.__cause__ = error
        return failed


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
