"""What a bus of events does, whatever it is made of. `claude_comms.testing.conformance` holds it to its word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from claude_comms.events._envelope import Event, NewEvent
    from claude_comms.events._selection import EventFilter

__all__ = ["ConsumerGroup", "EventBus", "Missed", "Subscription"]


@dataclass(frozen=True, slots=True)
class Missed:
    """Said to a subscriber in the place of events that it did not get: it was too slow, or they were removed.

    The events from `first` to `last` (sequence numbers, both included) may hold some that it wanted.
    """

    first: int
    last: int
    reason: str


class Subscription(Protocol):
    """Events as they come, each once, in order. An async context manager; one task iterates it."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Event | Missed: ...

    def ready(self) -> list[Event | Missed]:
        """What could be had now without waiting, and is taken with this call; maybe not all that is kept."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ConsumerGroup(Protocol):
    """Events shared among the consumers of one name: each goes to one of them, until one acknowledges it."""

    async def take(self, limit: int = 100, *, wait_s: float = 0.0) -> list[Event]:
        """The next events for this consumer, waiting up to `wait_s` for the first. They are this consumer's until
        they are acknowledged, given back, or held for longer than the group's limit.
        """
        ...

    async def acknowledge(self, events: Sequence[Event]) -> None:
        """They are dealt with: durable, and never delivered to this group again."""
        ...

    async def give_back(self, events: Sequence[Event]) -> None:
        """Let another consumer have them, at once and in order."""
        ...

    async def missed(self) -> list[Missed]:
        """What was removed before the group had acknowledged it; each is told once."""
        ...


class EventBus(Protocol):
    """Takes events, keeps them, and passes them on."""

    async def open(self) -> None:
        """Be ready. Called once."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the newest durable event; 0 where there is none."""
        ...

    def post(self, event: NewEvent) -> None:
        """Take an event and return at once; it becomes durable soon, after those posted before it. Any thread."""
        ...

    async def publish(self, *events: NewEvent) -> list[Event]:
        """Take events, in this order, and return them once they are durable."""
        ...

    async def read(self, wanted: EventFilter | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Kept events behind the cursor `after` that fit, oldest first."""
        ...

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 10_000
    ) -> Subscription:
        """Follow what fits: from the cursor `after` on, or from now on. Only durable events are passed on.

        A subscriber further behind than `buffer` events is not waited for; it is told what it `Missed`.
        """
        ...

    def group(self, name: str, wanted: EventFilter | None = None, *, hold_s: float = 60.0) -> ConsumerGroup:
        """A consumer of the durable group `name`, which begins with the events after its first use."""
        ...

    async def close(self) -> None:
        """Make durable what was posted, end the subscriptions, and let go, in bounded time. May be called twice."""
        ...
