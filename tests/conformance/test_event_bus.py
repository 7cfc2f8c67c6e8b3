from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from claude_comms.events import MemoryBus
from claude_comms.events.log import EventLog
from claude_comms.testing.conformance import BusHarness, EventBusConformance, event_bus_machine

if TYPE_CHECKING:
    from claude_comms.events import EventBus


class LogHarness(BusHarness):
    durable = True

    def __init__(self, directory: Path) -> None:
        self.path = directory / "events.db"

    def make(self) -> EventBus:
        return EventLog(self.path, retention_s=3600, retention_bytes=1 << 30)

    def make_small(self) -> EventBus:
        return EventLog(self.path, retention_s=3600, retention_bytes=200_000)

    async def settle(self, bus: EventBus) -> None:
        assert isinstance(bus, EventLog)
        await bus.trim()

    async def crash(self, bus: EventBus) -> None:
        assert isinstance(bus, EventLog)
        bus.abandon()

    def forget(self) -> None:
        shutil.rmtree(self.path.parent)


class MemoryHarness(BusHarness):
    durable = False

    def make(self) -> EventBus:
        return MemoryBus()

    def make_small(self) -> EventBus:
        return MemoryBus(kept_events=100)

    async def settle(self, bus: EventBus) -> None:
        pass

    async def crash(self, bus: EventBus) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        pass


class TestEventLog(EventBusConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> BusHarness:
        return LogHarness(tmp_path)


class TestMemoryBus(EventBusConformance):
    @pytest.fixture
    def harness(self) -> BusHarness:
        return MemoryHarness()


_SETTINGS = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

TestEventLogMachine = event_bus_machine(lambda: LogHarness(Path(tempfile.mkdtemp()))).TestCase
TestEventLogMachine.settings = _SETTINGS
TestMemoryBusMachine = event_bus_machine(MemoryHarness).TestCase
TestMemoryBusMachine.settings = _SETTINGS
