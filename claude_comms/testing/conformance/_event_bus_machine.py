"""The property test of `claude_comms.testing.conformance.event_bus`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from claude_comms.events import Event, EventFilter
from claude_comms.testing.conformance.event_bus import make_event

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from claude_comms.events import ConsumerGroup, EventBus, NewEvent, Subscription
    from claude_comms.testing.conformance.event_bus import BusHarness

__all__ = ["make_machine"]

_WAIT_S = 20.0
_NAMESPACES = ("marker/arangodb", "arangodb/marker", "daemon")
_GROUPS: dict[str, EventFilter | None] = {"all": None, "marker": EventFilter(module="marker")}
_namespaces = st.sampled_from(_NAMESPACES)
_groups = st.sampled_from(sorted(_GROUPS))
_some = st.lists(st.integers(0, 30), max_size=6)


class _Machine(RuleBasedStateMachine):
    """What it believes about a bus, beside the bus."""

    def __init__(self, harness: BusHarness) -> None:
        super().__init__()
        self.harness = harness
        self.runner = asyncio.Runner()
        self.bus: EventBus
        self.number = 0
        self.certain: list[Event] = []
        """What publishing has returned."""
        self.posted: list[str] = []
        """What may or may not be there after a crash, by event id, since the last moment that is certain."""
        self.groups: dict[str, ConsumerGroup] = {}
        self.begun: dict[str, int] = {}
        self.held: dict[str, dict[int, Event]] = {name: {} for name in _GROUPS}
        self.acknowledged: dict[str, set[int]] = {name: set() for name in _GROUPS}
        self.follower: Subscription | None = None
        self.followed = 0

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(_WAIT_S):
                return await what

        return self.runner.run(bounded())

    @initialize()
    def start(self) -> None:
        self.bus = self.harness.make()
        self.run(self.bus.open())

    # --- publishing ---

    @rule(namespaces=st.lists(_namespaces, max_size=5))
    def publish(self, namespaces: list[str]) -> None:
        new = [self.make(namespace) for namespace in namespaces]
        events: list[Event] = self.run(self.bus.publish(*new))
        assert [event.event_id for event in events] == [event.event_id for event in new]
        self.certain += events
        if events:
            self.posted.clear()  # they stand before these, so they are durable, too

    @rule(namespaces=st.lists(_namespaces, min_size=1, max_size=5))
    def post(self, namespaces: list[str]) -> None:
        async def post() -> None:
            for new in map(self.make, namespaces):
                self.bus.post(new)
                self.posted.append(new.event_id)

        self.run(post())

    def make(self, namespace: str) -> NewEvent:
        self.number += 1
        return make_event(self.number, namespace=namespace)

    # --- groups ---

    @rule(name=_groups)
    def join(self, name: str) -> None:
        async def join() -> ConsumerGroup:
            group = self.bus.group(name, _GROUPS[name])
            await group.missed()  # it has begun, durably
            return group

        self.groups[name] = self.run(join())
        if name not in self.begun:
            self.run(self.bus.publish(self.make("daemon")))
            self.begun[name] = self.bus.last_seq  # what is behind this, it must get

    @precondition(lambda self: self.groups)
    @rule(name=_groups, limit=st.integers(1, 8))
    def take(self, name: str, limit: int) -> None:
        if name in self.groups:
            self.took(name, self.run(self.groups[name].take(limit)))

    def took(self, name: str, events: list[Event]) -> None:
        wanted = _GROUPS[name]
        for event in events:
            assert wanted is None or wanted.fits(event)
            assert event.seq not in self.held[name], "one event went to two consumers"
            assert event.seq not in self.acknowledged[name], "an acknowledged event was delivered again"
        assert [event.seq for event in events] == sorted(event.seq for event in events)
        self.held[name].update({event.seq: event for event in events})

    @rule(name=_groups, done=st.lists(st.booleans(), min_size=1, max_size=6))
    def work(self, name: str, done: list[bool]) -> None:
        """As a consumer does: some of what it takes is dealt with, some is not."""
        if name not in self.groups:
            self.join(name)
        self.publish(["marker/arangodb"] * len(done))
        before = set(self.held[name])
        self.took(name, self.run(self.groups[name].take(len(done))))
        taken = sorted(set(self.held[name]) - before)
        events = [self.held[name].pop(seq) for seq, yes in zip(taken, done, strict=False) if yes]
        self.run(self.groups[name].acknowledge(events))
        self.acknowledged[name].update(event.seq for event in events)

    @rule(name=_groups, which=_some)
    def acknowledge(self, name: str, which: list[int]) -> None:
        events = self.chosen(name, which)
        if name in self.groups and events:
            self.run(self.groups[name].acknowledge(events))
            self.acknowledged[name].update(event.seq for event in events)

    @rule(name=_groups, which=_some)
    def give_back(self, name: str, which: list[int]) -> None:
        events = self.chosen(name, which)
        if name in self.groups and events:
            self.run(self.groups[name].give_back(events))

    def chosen(self, name: str, which: list[int]) -> list[Event]:
        seqs = sorted(self.held[name])
        return [self.held[name].pop(seq) for seq in {seqs[index % len(seqs)] for index in which if seqs}]

    # --- following ---

    @rule(back=st.integers(0, 20))
    def follow(self, back: int) -> None:
        """From a while ago, up to the end."""

        async def follow() -> None:
            after = max(0, self.bus.last_seq - back)
            last = await self.bus.publish(self.make("daemon"))
            async with self.bus.subscribe(after=after) as subscription:
                heard = after
                while heard < last[0].seq:
                    event = await anext(subscription)
                    assert isinstance(event, Event)
                    assert event.seq == heard + 1, "a gap, or a doubling"
                    heard = event.seq
            self.certain += last
            self.posted.clear()

        self.run(follow())

    # --- ends ---

    @rule()
    def reopen(self) -> None:
        if self.harness.durable:
            self.run(self.bus.close())
            self.posted.clear()
            self.come_back()

    @rule()
    def crash(self) -> None:
        if self.harness.durable:
            self.run(self.harness.crash(self.bus))
            self.come_back()

    def come_back(self) -> None:
        self.bus = self.harness.make()
        self.run(self.bus.open())
        self.groups.clear()
        for held in self.held.values():
            held.clear()  # their consumers are gone; what they held comes again

    # --- what must always be so ---

    @invariant()
    def nothing_certain_is_lost_and_order_is_kept(self) -> None:
        kept: list[Event] = self.run(self.bus.read(limit=100_000))
        assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
        for namespace in _NAMESPACES:
            numbers = [event.data["number"] for event in kept if event.namespace == namespace]
            assert numbers == sorted(set(numbers)), "the order within a namespace, or an event twice"
        by_seq = {event.seq: event for event in kept}
        for event in self.certain:
            assert by_seq.get(event.seq) == event, "an event that was acknowledged to its publisher is gone"

    def teardown(self) -> None:
        """In the end every group gets all that it has not acknowledged."""
        if hasattr(self, "bus"):
            for name in self.begun:
                self.drain(name)
            self.run(self.bus.close())
        self.runner.close()
        self.harness.forget()

    def drain(self, name: str) -> None:
        self.join(name)
        last = self.run(self.bus.publish(self.make("marker/arangodb")))[0].seq
        while events := self.run(self.groups[name].take(50)):
            self.took(name, events)
            self.acknowledged[name].update(event.seq for event in events)
            self.run(self.groups[name].acknowledge(events))
        wanted = _GROUPS[name]
        kept: list[Event] = self.run(self.bus.read(wanted, after=self.begun[name], limit=100_000))
        expected = {event.seq for event in kept if event.seq <= last}
        assert expected <= self.acknowledged[name] | set(self.held[name]), "an event never came to its group"


def make_machine(make_harness: Callable[[], BusHarness]) -> type[RuleBasedStateMachine]:
    """The machine over the buses of the harness that `make_harness` makes for each run."""

    class Machine(_Machine):
        def __init__(self) -> None:
            super().__init__(make_harness())

    return Machine
