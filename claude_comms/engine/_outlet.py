"""Where an engine's events go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from claude_comms.errors import ClaudeCommsError, StoreError

if TYPE_CHECKING:
    from claude_comms.events import EventBus, NewEvent

__all__ = ["Gathered", "Outlet"]

_LOG = logging.getLogger(__name__)


class Outlet:
    """Passes events on to a bus. No failure of the bus becomes a failure of what it is told of."""

    def __init__(self, bus: EventBus, *, heard: bool) -> None:
        self._bus = bus
        self.heard = heard
        """Whether anybody could hear. While nobody can, events need not be made."""

    def tell(self, event: NewEvent) -> None:
        """Hand `event` to the bus, where somebody could hear it. What the bus refuses is logged."""
        if not self.heard:
            return
        try:
            self._bus.post(event)
        except ClaudeCommsError as error:
            _LOG.warning("an event %s was lost: %s", event.type, error)


class Gathered(Outlet):
    """Keeps what it is told until `published`."""

    def __init__(self, bus: EventBus, *, heard: bool) -> None:
        super().__init__(bus, heard=heard)
        self._events: list[NewEvent] = []

    def tell(self, event: NewEvent) -> None:
        """Keep `event`, where somebody could hear it."""
        if self.heard:
            self._events.append(event)

    async def published(self) -> None:
        """Hand everything to the bus; durable once this returns, unless the bus cannot be written now."""
        events, self._events = self._events, []
        try:
            await self._bus.publish(*events)
        except StoreError:
            for event in events:
                Outlet.tell(self, event)  # kept in memory until the log can be written
