"""A turn's events on their way to whoever asked: from a cursor on, in order, each once, to the turn's end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from claude_comms.daemon.server._hosted import Outcome
from claude_comms.daemon.wire import TERMINAL, TURN_EVENTS
from claude_comms.errors import DaemonError
from claude_comms.events import Event, EventFilter, Missed, Priority
from claude_comms.types import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from claude_comms.daemon.server._hosted import HostedTurn
    from claude_comms.protocols import Engine

__all__ = ["Relay"]

_PATIENCE_S = 5.0
"""How long the end of a turn may take from the engine into the event log before it is told without the log."""


class Relay:
    """Passes one turn's events on to `deliver`, all that are there at once.

    `deliver` may wait: nothing is kept for a slow reader but the log.
    """

    def __init__(
        self,
        engine: Engine,
        hosted: HostedTurn,
        deliver: Callable[[Sequence[Event]], Awaitable[None]],
        *,
        after: int = 0,
    ) -> None:
        self._engine = engine
        self._hosted = hosted
        self._deliver = deliver
        self._after = after
        self._cursor = after
        self._delivering = False
        self._delivered = 0
        self._outcome: Outcome | None = None

    async def run(self) -> Outcome:
        """Pass on what there is until the turn's end, which is delivered too, and tell how it ended.

        Raises what `deliver` raises. Cancelling it leaves the turn alone.
        """
        await self._hosted.settled.wait()
        self._cursor = max(self._after, self._hosted.cursor)
        with anyio.CancelScope() as scope:
            watch = asyncio.create_task(self._give_up_on_log(scope))
            try:
                while not await self._pass_on():
                    pass
            finally:
                watch.cancel()
        if self._outcome is None:
            self._outcome = self._hosted.outcome or Outcome(error=_no_end().as_dict())
            await self._deliver([self._end_of(self._outcome)])
        return self._outcome

    async def _pass_on(self) -> bool:
        """False: subscribe once more, from the cursor."""
        wanted = EventFilter(types=(TURN_EVENTS,), turn_id=self._hosted.turn_id)
        before = self._cursor
        async with self._engine.follow(wanted, after=self._cursor) as events:
            async for first in events:
                if not await self._take([first, *events.ready()], before):
                    return False
                if self._outcome is not None:
                    return True
        return True

    async def _take(self, items: Sequence[Event | Missed], before: int) -> bool:
        """Hand over what there is, up to the turn's end. False: subscribe once more."""
        there: list[Event] = []
        for item in items:
            if isinstance(item, Event):
                there.append(item)
                if item.type in TERMINAL:
                    break
            else:
                await self._hand_over(there)
                there = []
                if self._lost(item, before):
                    return False
        await self._hand_over(there)
        if there and there[-1].type in TERMINAL:
            self._outcome = _outcome(there[-1])
        return True

    def _lost(self, missed: Missed, before: int) -> bool:
        """Whether reading on from the log brings back what was missed: not if it was the log that began later."""
        if self._cursor > before:
            return True
        self._cursor = max(self._cursor, missed.last)
        return False

    async def _hand_over(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._delivering = True
        try:
            await self._deliver(events)
        finally:
            self._delivering = False
        self._cursor = events[-1].seq
        self._delivered += len(events)

    async def _give_up_on_log(self, scope: anyio.CancelScope) -> None:
        """The turn is over and the log does not say so: its disk is full, or its writer dead."""
        await self._hosted.ended.wait()
        while True:
            delivered = self._delivered
            await asyncio.sleep(_PATIENCE_S)
            if delivered == self._delivered and not self._delivering:
                scope.cancel()
                return

    def _end_of(self, outcome: Outcome) -> Event:
        """The terminal event that the log does not have."""
        source = outcome.reply or outcome.error or {}
        told = {"reply": outcome.reply} if outcome.reply is not None else {"error": outcome.error}
        kind = "turn.completed" if outcome.reply is not None else "turn.failed"
        subject = str(source.get("thread_id") or self._hosted.turn_id)
        new = {"turn_id": self._hosted.turn_id, **told}
        return Event(self._cursor + 1, new_id("e"), kind, subject, "daemon", Priority.HIGH, datetime.now(UTC), new)


def _outcome(event: Event) -> Outcome:
    if event.type == "turn.completed":
        return Outcome(reply=dict(event.data["reply"]))
    return Outcome(error=dict(event.data["error"]))


def _no_end() -> DaemonError:
    return DaemonError("the daemon stopped before the end of the turn. Ask for its events again once it is back.")
