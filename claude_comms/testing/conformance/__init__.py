"""What every implementation of a protocol must do, as pytest classes to subclass."""

from claude_comms.testing.conformance.backends import BackendConformance, make_request
from claude_comms.testing.conformance.event_bus import (
    BusHarness,
    EventBusConformance,
    event_bus_machine,
    make_event,
)

__all__ = [
    "BackendConformance",
    "BusHarness",
    "EventBusConformance",
    "event_bus_machine",
    "make_event",
    "make_request",
]
