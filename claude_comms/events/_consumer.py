"""A consumer of a group, on top of whatever keeps the groups."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from claude_comms.events._bus import ConsumerGroup, Missed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.events._envelope import Event
    from claude_comms.events._fanout import Hub
    from claude_comms.events._selection import EventFilter

__all__ = ["Consumer", "GroupDesk", "Taken"]


class Taken(NamedTuple):
    """What came of one look for events."""

    events: list[Event]
    more: bool
    """Not everything was looked through: look again at once."""
    free_in_s: float | None
    """When the first hold ends; None where nothing is held."""


class GroupDesk(Protocol):
    """Where the groups are kept."""

    async def take(self, name: str, limit: int, hold_s: float) -> Taken:
        """Give out up to `limit` events."""
        ...

    async def acknowledge(self, name: str, seqs: Sequence[int]) -> None:
        """They are dealt with, durably."""
        ...

    async def give_back(self, name: str, seqs: Sequence[int]) -> None:
        """Let others have them."""
        ...

    async def missed(self, name: str) -> list[Missed]:
        """What was removed before it was acknowledged; told once."""
        ...


class Consumer(ConsumerGroup):
    """One consumer. Any number of tasks and event loops may have one of the same name."""

    def __init__(self, hub: Hub, desk: GroupDesk, name: str, wanted: EventFilter | None, hold_s: float) -> None:
        self._hub = hub
        self._desk = desk
        self._name = name
        self._wanted = wanted
        self._hold_s = hold_s

    async def take(self, limit: int = 100, *, wait_s: float = 0.0) -> list[Event]:
        """See `ConsumerGroup`."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + wait_s
        ear = _Ear(self._name, self._wanted)
        inbox = self._hub.join(ear)  # before looking: what comes while it looks must wake it
        try:
            while True:
                ear.heard.clear()
                taken = await self._desk.take(self._name, limit, self._hold_s)
                left_s = give_up_at - clock()
                if taken.events or (left_s <= 0 and not taken.more):
                    return taken.events
                if not taken.more:
                    await ear.wait(left_s if taken.free_in_s is None else min(left_s, taken.free_in_s))
        finally:
            self._hub.leave(inbox, ear)

    async def acknowledge(self, events: Sequence[Event]) -> None:
        """See `ConsumerGroup`."""
        if events:
            await self._desk.acknowledge(self._name, [event.seq for event in events])

    async def give_back(self, events: Sequence[Event]) -> None:
        """See `ConsumerGroup`."""
        if events:
            await self._desk.give_back(self._name, [event.seq for event in events])

    async def missed(self) -> list[Missed]:
        """See `ConsumerGroup`."""
        return await self._desk.missed(self._name)


class _Ear:
    """Listens for anything that may be for a waiting consumer."""

    def __init__(self, name: str, wanted: EventFilter | None) -> None:
        self.heard = asyncio.Event()
        self.turn_id = None if wanted is None else wanted.turn_id
        self._name = name
        self._wanted = wanted

    def hear(self, event: Event | Missed, size_bytes: int) -> None:
        if isinstance(event, Missed) or self._wanted is None or self._wanted.fits(event):
            self.heard.set()

    def rouse(self, group: str) -> None:
        if group == self._name:
            self.heard.set()

    def end(self) -> None:
        self.heard.set()

    async def wait(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, within_s)):
                await self.heard.wait()
        except TimeoutError:
            pass
