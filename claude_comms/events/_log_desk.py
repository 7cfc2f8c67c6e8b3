"""A consumer group of the log, from the side of the event loops: what it asks is done in the writing thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from claude_comms.errors import StoreError
from claude_comms.events._writer import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_comms.events._bus import Missed
    from claude_comms.events._consumer import Taken
    from claude_comms.events._kept import KeptLog
    from claude_comms.events._selection import EventFilter
    from claude_comms.events._writer import LogWriter

__all__ = ["LogDesk", "done"]


class LogDesk:
    """One group of a log, from the event loops' side."""

    def __init__(self, writer: LogWriter, name: str, wanted: EventFilter | None) -> None:
        self._writer = writer
        self._wanted = wanted
        self._registered = False
        # At once, so that the group begins here; should it fail, the first use tries again and tells of it.
        writer.work(Work(None, do=lambda kept: kept.groups.register(name, wanted, kept.last_seq), writes=True))

    async def take(self, name: str, limit: int, hold_s: float) -> Taken:
        """Give out up to `limit` events."""
        await self._register(name)
        call = Work(
            asyncio.get_running_loop().create_future(),
            do=lambda kept: kept.groups.take(name, limit, hold_s, kept.last_seq),
            unclaimed=lambda taken: self._return(name, taken),
        )
        self._writer.work(call)
        try:
            taken: Taken = await call.answer()
        except asyncio.CancelledError:
            if call.is_answered:
                self._return(name, call.result)
            raise
        return taken

    async def acknowledge(self, name: str, seqs: Sequence[int]) -> None:
        """They are dealt with, durably."""
        await self._register(name)
        await done(self._writer, lambda kept: kept.groups.acknowledge(name, seqs, kept.last_seq), writes=True)

    async def give_back(self, name: str, seqs: Sequence[int]) -> None:
        """Let others have them."""
        await self._register(name)
        await done(self._writer, lambda kept: kept.give_back(name, seqs))

    async def missed(self, name: str) -> list[Missed]:
        """What was removed before it was acknowledged; told once."""
        await self._register(name)
        missed: list[Missed] = await done(self._writer, lambda kept: kept.groups.missed(name), writes=True)
        return missed

    async def _register(self, name: str) -> None:
        if not self._registered:
            wanted = self._wanted
            await done(self._writer, lambda kept: kept.groups.register(name, wanted, kept.last_seq), writes=True)
            self._registered = True

    def _return(self, name: str, taken: Taken) -> None:
        """Nobody is there any more to have what was taken."""
        seqs = [event.seq for event in taken.events]
        with contextlib.suppress(StoreError):  # closed: the next process gives them out again
            self._writer.work(Work(None, do=lambda kept: kept.give_back(name, seqs)))


async def done(writer: LogWriter, do: Callable[[KeptLog], Any], *, writes: bool = False) -> Any:
    """What `do` gives, run in the writing thread; in a transaction if it `writes`. What it raises is raised here."""
    call = Work(asyncio.get_running_loop().create_future(), do=do, writes=writes)
    writer.work(call)
    return await call.answer()
