"""Turns that the daemon carries for its clients: they run on when a client goes, and no question is asked twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from claude_comms.daemon.server._answers import Refusal, internal_error
from claude_comms.daemon.server._hosted import HostedTurn, Outcome
from claude_comms.daemon.server._relay import Relay
from claude_comms.daemon.wire import TURN_EVENTS
from claude_comms.errors import ClaudeCommsError, ConfigError, DaemonError, TurnFailedError
from claude_comms.events import EventFilter
from claude_comms.types import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from claude_comms.events import Event, EventBus
    from claude_comms.protocols import Engine
    from claude_comms.types import Question

__all__ = ["Turns"]

_MOST_ENDED = 256
"""So many turns that have ended are kept in memory; older ones are in the event log."""

_INTERRUPT_WAIT_S = 5.0


class Turns:
    """All turns that this server has been asked for."""

    def __init__(self, engine: Engine, bus: EventBus) -> None:
        self._engine = engine
        self._bus = bus
        self._running: dict[str, HostedTurn] = {}
        self._ended: OrderedDict[str, HostedTurn] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._readers = 0
        self._unread = anyio.Event()

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    def ask(self, question: Question, *, new: bool = False) -> HostedTurn:
        """The turn of `question`: the one that has its `turn_id` already, or a new one.

        `new`: whoever asks has just made the `turn_id` up, so that no earlier daemon can know it.
        Refusal (503) for a new one once the daemon stops. ConfigError where the id is that of another question.
        """
        turn_id = question.turn_id or new_id("t")
        known = self._known(turn_id)
        if known is not None:
            if not known.is_of(question):
                raise ConfigError(
                    f"turn_id {turn_id!r} is that of another question. Choose a new one for each question."
                )
            return known
        if self._closed:
            raise Refusal(DaemonError("the daemon is stopping. Ask again in a moment: it is started anew then."), 503)
        hosted = self._running[turn_id] = HostedTurn(turn_id, self._bus.last_seq, question)
        maybe_known = question.turn_id is not None and not new
        carried = self._carry(hosted, replace(question, turn_id=turn_id), maybe_known=maybe_known)
        task = asyncio.create_task(carried, name=f"turn {turn_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return hosted

    async def relay(
        self, hosted: HostedTurn, deliver: Callable[[Sequence[Event]], Awaitable[None]], *, after: int = 0
    ) -> Outcome:
        """Pass on a turn's events from a cursor on, to its end; see `Relay.run`."""
        with self.being_read():
            return await Relay(self._engine, hosted, deliver, after=after).run()

    async def find(self, turn_id: str) -> HostedTurn:
        """A turn that has been asked for, here or before. Refusal (404) for one that nobody knows."""
        known = self._known(turn_id)
        if known is not None:
            return known
        if not await self._in_log(turn_id):
            raise Refusal(DaemonError(f"no turn {turn_id!r}: its question has never started. Ask it."), 404)
        hosted = HostedTurn(turn_id, 0)
        hosted.is_elsewhere()
        return hosted

    def _known(self, turn_id: str) -> HostedTurn | None:
        return self._running.get(turn_id) or self._ended.get(turn_id)

    async def _in_log(self, turn_id: str) -> bool:
        return bool(await self._bus.read(EventFilter(types=(TURN_EVENTS,), turn_id=turn_id), limit=1))

    async def _carry(self, hosted: HostedTurn, question: Question, *, maybe_known: bool) -> None:
        outcome = Outcome(error=_cut().as_dict())
        try:
            if maybe_known and await self._in_log(hosted.turn_id):
                hosted.is_elsewhere()
            else:
                turn = await self._engine.ask(question)
                hosted.runs(turn)
                outcome = Outcome(reply=(await turn.reply()).as_dict())
        except ClaudeCommsError as error:
            outcome = Outcome(error=error.as_dict())
        except Exception as error:  # noqa: BLE001 - told to whoever waits, and logged
            outcome = Outcome(error=internal_error(error))
        finally:
            self._running.pop(hosted.turn_id, None)
            if not hosted.elsewhere:
                hosted.end(outcome)
                self._keep(hosted)

    def _keep(self, hosted: HostedTurn) -> None:
        self._ended[hosted.turn_id] = hosted
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def refuse(self) -> None:
        """Take no new turns any more."""
        self._closed = True

    async def finished(self) -> None:
        """Wait until none runs."""
        await self._wait(None)

    async def interrupt(self) -> None:
        """Interrupt those that run and wait, bounded, until they have ended."""
        with anyio.move_on_after(_INTERRUPT_WAIT_S):
            async with anyio.create_task_group() as interrupting:
                for hosted in tuple(self._running.values()):
                    interrupting.start_soon(_stop, hosted)
        await self._wait(_INTERRUPT_WAIT_S)

    async def _wait(self, wait_s: float | None) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=wait_s)

    @contextmanager
    def being_read(self) -> Generator[None]:
        """Somebody is being told of a turn meanwhile."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._unread.set()
                self._unread = anyio.Event()

    async def quiet(self, wait_s: float) -> None:
        """Wait, bounded, until nobody is being told of a turn any more."""
        with anyio.move_on_after(wait_s):
            while self._readers:
                await self._unread.wait()

    async def close(self) -> None:
        """Let go of what still hangs, after the engine is closed."""
        for task in tuple(self._tasks):
            task.cancel()
        await self._wait(_INTERRUPT_WAIT_S)


async def _stop(hosted: HostedTurn) -> None:
    # Whatever comes of it, the turn's own task knows, too.
    with suppress(Exception):
        await hosted.interrupt()


def _cut() -> TurnFailedError:
    return TurnFailedError("the daemon stopped before the answer came. Ask again.", reason="interrupted")
