# ruff: noqa: D102  the names of the tests say what they are about
"""What a bus of events must do.

    class TestMine(EventBusConformance):
        @pytest.fixture
        def harness(self, tmp_path) -> BusHarness:
            return MyHarness(tmp_path)

A harness makes buses, all with the same store behind them, and says what they are able to do. `event_bus_machine`
makes a state machine of hypothesis out of a harness: whatever is published, taken, acknowledged, given back, followed,
crashed and opened again, in whatever order, no acknowledged event is lost, none comes twice to a group that
acknowledged it, and each namespace keeps its order.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import pytest

from claude_comms.errors import ClaudeCommsError, ConfigError
from claude_comms.events import EventFilter, Missed, NewEvent, Priority

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from hypothesis.stateful import RuleBasedStateMachine

    from claude_comms.events import Event, EventBus, Subscription

__all__ = ["BusHarness", "EventBusConformance", "event_bus_machine", "make_event"]

WAIT_S = 20.0
_SHORT_HOLD_S = 0.05


def make_event(number: int = 0, *, namespace: str = "marker/arangodb", **more: Any) -> NewEvent:
    """An event that carries `number`."""
    return NewEvent(
        more.pop("type", "turn.started"),
        more.pop("subject", "c_conformance"),
        namespace,
        {"number": number, **more.pop("data", {})},
        **more,
    )


class BusHarness(Protocol):
    """Makes the buses of one test."""

    durable: bool
    """What was published is there when the bus is opened again, and after a crash."""

    def make(self) -> EventBus:
        """A bus that is not open yet, on the store of this harness. One at a time is open."""
        ...

    def make_small(self) -> EventBus | None:
        """Like `make`, of which no more than the newest 100 events are kept, more or less; None where that cannot
        be had.
        """
        ...

    async def settle(self, bus: EventBus) -> None:
        """Have a small bus remove what it need not keep, now."""
        ...

    async def crash(self, bus: EventBus) -> None:
        """End `bus` as kill -9 of its process would. Only where it is durable."""
        ...

    def forget(self) -> None:
        """Remove the store of a harness that is not needed any more."""
        ...


def numbers(events: Sequence[Event | Missed]) -> list[int]:
    """The numbers that `make_event` put into `events`."""
    return [event.data["number"] for event in events if not isinstance(event, Missed)]


async def next_of(subscription: Subscription, count: int) -> list[Event | Missed]:
    """The next `count` things that a subscription tells, in bounded time."""
    with anyio.fail_after(WAIT_S):
        return [await anext(subscription) for _ in range(count)]


class EventBusConformance:
    """Subclass it and give it a fixture `harness`. See this module's docstring."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """All of claude-comms runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def harness(self) -> BusHarness:
        """What makes the buses."""
        raise NotImplementedError("give the subclass a fixture named harness")

    @pytest.fixture
    async def bus(self, harness: BusHarness) -> Any:
        """An open bus, closed after the test."""
        async with opened(harness.make()) as bus:
            yield bus

    # --- publishing and reading ---

    async def test_published_events_are_numbered_without_gaps_and_can_be_read(self, bus: EventBus) -> None:
        assert bus.last_seq == 0
        first = await bus.publish(make_event(1), make_event(2))
        second = await bus.publish(make_event(3))
        assert [event.seq for event in (*first, *second)] == [1, 2, 3]
        assert bus.last_seq == 3
        assert await bus.read() == [*first, *second]

    async def test_an_event_comes_back_as_it_was_handed_over(self, bus: EventBus) -> None:
        data = {"text": "\U0001f600 \u2028 \x1b[2J ' \" \0", "deep": {"list": [1, 2.5, None, True, 10**40]}}
        new = make_event(1, data=data, subject="c_\u00fc*?[", type="weather.changed")
        (event,) = await bus.publish(new)
        assert (event.event_id, event.type, event.subject, event.namespace, event.priority, event.time) == (
            new.event_id,
            new.type,
            new.subject,
            new.namespace,
            new.priority,
            new.time,
        )
        assert event.data == {"number": 1, **data}
        assert await bus.read() == [event]

    async def test_half_a_character_does_not_cost_the_event(self, bus: EventBus) -> None:
        """A model's text may be cut in two anywhere, and nothing that is not Unicode can be sent on."""
        (event,) = await bus.publish(make_event(1, data={"text": "half \ud83d", "\ude00": "ok \U0001f600"}))
        assert event.data == {"number": 1, "text": "half \ufffd", "\ufffd": "ok \U0001f600"}
        assert await bus.read() == [event]

    async def test_posted_events_stand_before_those_published_after_them(self, bus: EventBus) -> None:
        for number in range(50):
            bus.post(make_event(number))
        (last,) = await bus.publish(make_event(50))
        assert last.seq == 51
        assert numbers(await bus.read()) == list(range(51))

    async def test_events_may_be_posted_from_any_thread(self, bus: EventBus) -> None:
        async with bus.subscribe() as subscription:
            await anyio.to_thread.run_sync(bus.post, make_event(7))
            assert numbers(await next_of(subscription, 1)) == [7]

    async def test_nothing_is_published_by_publishing_nothing(self, bus: EventBus) -> None:
        assert await bus.publish() == []
        assert bus.last_seq == 0

    async def test_an_event_that_cannot_be_kept_is_refused_and_leaves_no_trace(self, bus: EventBus) -> None:
        with pytest.raises(ConfigError, match=r"data\.wrong"):
            await bus.publish(make_event(1), make_event(2, data={"wrong": object()}))
        with pytest.raises(ConfigError, match=r"data\.wrong"):
            bus.post(make_event(2, data={"wrong": object()}))
        await bus.publish(make_event(3))
        assert numbers(await bus.read()) == [3]

    async def test_many_publishers_at_once_keep_each_its_order(self, bus: EventBus) -> None:
        async def publish(namespace: str) -> None:
            for number in range(20):
                await bus.publish(make_event(number, namespace=namespace))

        names = [f"m{index}/target" for index in range(8)]
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(publish, name)
        events = await bus.read()
        assert [event.seq for event in events] == list(range(1, 161))
        for name in names:
            assert numbers([event for event in events if event.namespace == name]) == list(range(20))

    async def test_reading_goes_on_from_a_cursor_in_pages(self, bus: EventBus) -> None:
        await bus.publish(*(make_event(number) for number in range(25)))
        read: list[Event] = []
        while page := await bus.read(after=read[-1].seq if read else 0, limit=10):
            assert len(page) <= 10
            read += page
        assert numbers(read) == list(range(25))

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (EventFilter(types=("turn.*",)), [0, 1, 4]),
            (EventFilter(types=("job.done", "turn.started")), [0, 2]),
            (EventFilter(subjects=("c_*",)), [0, 1, 3, 4]),
            (EventFilter(namespaces=("marker/*",)), [0, 3]),
            (EventFilter(module="arangodb"), [0, 1]),
            (EventFilter(module="arango"), []),
            (EventFilter(instance_id="i_1"), [1, 3]),
            (EventFilter(turn_id="t_1"), [1, 4]),
            (EventFilter(priority=Priority.NORMAL), [0, 2, 3, 4]),
            (EventFilter(priority=Priority.HIGH), [4]),
            (EventFilter(priority=Priority.CRITICAL, types=("turn.*",)), []),
            (EventFilter(types=("turn.*",), module="arangodb", turn_id="t_1"), [1]),
            (EventFilter(subjects=("[c]_1", "c?1", "c_[*")), [4]),
        ],
    )
    async def test_filters_choose_alike_in_reading_and_following(
        self, bus: EventBus, wanted: EventFilter, expected: list[int]
    ) -> None:
        async with bus.subscribe(wanted) as live, bus.subscribe(wanted, after=0) as replayed:
            await bus.publish(
                make_event(0, type="turn.started", subject="c_1", namespace="marker/arangodb"),
                make_event(
                    1,
                    type="turn.delta",
                    subject="c_1",
                    namespace="arangodb/x",
                    data={"turn_id": "t_1", "instance_id": "i_1"},
                ),
                make_event(2, type="job.done", subject="j_1", namespace="daemon"),
                make_event(3, type="message.stored", subject="c_2", namespace="marker/y", data={"instance_id": "i_1"}),
                make_event(4, type="turn.failed", subject="c_[", namespace="daemon", data={"turn_id": "t_1"}),
            )
            assert numbers(await bus.read(wanted)) == expected
            assert numbers(await next_of(live, len(expected))) == expected
            assert numbers(await next_of(replayed, len(expected))) == expected

    # --- following ---

    async def test_a_subscription_hears_what_comes_after_it_was_made(self, bus: EventBus) -> None:
        await bus.publish(make_event(1))
        subscription = bus.subscribe()
        await bus.publish(make_event(2))
        async with subscription:
            await bus.publish(make_event(3))
            assert numbers(await next_of(subscription, 2)) == [2, 3]

    async def test_a_subscription_from_a_cursor_has_neither_gap_nor_doubling(self, bus: EventBus) -> None:
        """Replayed in many pages, while others go on publishing."""
        await bus.publish(*(make_event(number) for number in range(1500)))

        async def publish() -> None:
            for first in range(1500, 3000, 10):
                await bus.publish(*(make_event(number) for number in range(first, first + 10)))

        async with anyio.create_task_group() as group, bus.subscribe(after=100) as subscription:
            group.start_soon(publish)
            assert numbers(await next_of(subscription, 2900)) == list(range(100, 3000))

    async def test_only_kept_events_are_passed_on(self, bus: EventBus) -> None:
        async with bus.subscribe() as subscription:
            bus.post(make_event(1))
            (event,) = await next_of(subscription, 1)
            assert not isinstance(event, Missed)
            assert bus.last_seq >= event.seq
            assert await bus.read() == [event]

    async def test_a_slow_subscriber_holds_up_nobody_and_is_told_what_it_missed(self, bus: EventBus) -> None:
        async with bus.subscribe(buffer=10) as slow, bus.subscribe(buffer=1000) as patient:
            for number in range(100):
                await bus.publish(make_event(number))
            missed, *rest = await next_of(slow, 11)
            assert isinstance(missed, Missed)
            assert (missed.first, missed.last) == (1, 90)
            assert missed.reason
            assert numbers(rest) == list(range(90, 100))
            assert numbers(await next_of(patient, 100)) == list(range(100))
            read = await bus.read(after=missed.first - 1, limit=missed.last - missed.first + 1)
            assert numbers(read) == list(range(90))

    async def test_a_subscription_ends_with_the_bus(self, harness: BusHarness) -> None:
        bus = harness.make()
        await bus.open()
        heard: list[Event | Missed] = []
        following = anyio.Event()

        async def follow() -> None:
            async with bus.subscribe() as subscription:
                following.set()
                heard.extend([event async for event in subscription])

        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await following.wait()
                bus.post(make_event(1))
                await bus.close()
        assert numbers(heard) == [1]

    async def test_leaving_a_subscription_ends_its_iteration(self, bus: EventBus) -> None:
        async with bus.subscribe() as subscription:
            await bus.publish(make_event(1))
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)

    async def test_a_cursor_beyond_the_end_is_told_of_and_skips_nothing(self, bus: EventBus) -> None:
        await bus.publish(make_event(1))
        async with bus.subscribe(after=50) as subscription:
            await bus.publish(make_event(2))
            missed, event = await next_of(subscription, 2)
            assert missed == Missed(2, 50, missed.reason if isinstance(missed, Missed) else "")
            assert numbers([event]) == [2]

    async def test_a_cancelled_wait_loses_no_event(self, bus: EventBus) -> None:
        async with bus.subscribe() as subscription:
            heard: list[Event | Missed] = []
            for number in range(20):
                task = asyncio.ensure_future(anext(subscription))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                bus.post(make_event(number))
                if not task.cancel():
                    heard.append(task.result())
                await asyncio.wait([task])
                if not task.cancelled() and task.result() not in heard:
                    heard.append(task.result())
            assert numbers([*heard, *await next_of(subscription, 20 - len(heard))]) == list(range(20))

    # --- groups ---

    async def test_a_group_begins_with_what_comes_after_its_first_use(self, bus: EventBus) -> None:
        await bus.publish(make_event(1))
        group = bus.group("workers")
        await bus.publish(make_event(2))
        assert numbers(await group.take()) == [2]

    async def test_each_event_goes_to_one_consumer_of_a_group(self, bus: EventBus) -> None:
        one, two, other = bus.group("workers"), bus.group("workers"), bus.group("others")
        await bus.publish(*(make_event(number) for number in range(6)))
        assert numbers(await one.take(3)) == [0, 1, 2]
        assert numbers(await two.take(10)) == [3, 4, 5]
        assert await one.take() == []
        assert numbers(await other.take()) == [0, 1, 2, 3, 4, 5]

    async def test_many_consumers_share_without_loss_or_doubling(self, bus: EventBus) -> None:
        bus.group("workers")
        got: list[int] = []

        async def work() -> None:
            group = bus.group("workers")
            while len(got) < 500:
                events = await group.take(7, wait_s=0.02)
                got.extend(numbers(events))
                await group.acknowledge(events)

        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(work)
                for first in range(0, 500, 20):
                    await bus.publish(*(make_event(number) for number in range(first, first + 20)))
        assert sorted(got) == list(range(500))

    async def test_taking_waits_for_the_first_event(self, bus: EventBus) -> None:
        group = bus.group("workers", EventFilter(types=("job.*",)))
        taken: list[Event] = []

        async def take() -> None:
            taken.extend(await group.take(wait_s=WAIT_S))

        with anyio.fail_after(WAIT_S / 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                await bus.publish(make_event(1))
                await bus.publish(make_event(2, type="job.done"))
        assert numbers(taken) == [2]

    async def test_what_is_given_back_comes_first_and_in_order(self, bus: EventBus) -> None:
        group = bus.group("workers")
        await bus.publish(*(make_event(number) for number in range(5)))
        one, two, three = await group.take(3)
        await group.give_back([three, one])
        await group.acknowledge([two])
        assert numbers(await bus.group("workers").take()) == [0, 2, 3, 4]

    async def test_giving_back_wakes_a_waiting_consumer(self, bus: EventBus) -> None:
        group = bus.group("workers")
        await bus.publish(make_event(1))
        held = await group.take()
        taken: list[Event] = []

        async def take() -> None:
            taken.extend(await bus.group("workers").take(wait_s=WAIT_S))

        with anyio.fail_after(WAIT_S / 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                await group.give_back(held)
        assert taken == held

    async def test_what_is_held_for_too_long_goes_to_another(self, bus: EventBus) -> None:
        lost, alive = (bus.group("workers", hold_s=_SHORT_HOLD_S) for _ in range(2))
        await bus.publish(make_event(1))
        held = await lost.take()
        assert numbers(held) == [1]
        with anyio.fail_after(WAIT_S / 2):
            again = await alive.take(wait_s=WAIT_S)
        assert again == held
        await alive.acknowledge(again)
        await lost.acknowledge(held)  # too late, and does no harm
        assert await alive.take(wait_s=2 * _SHORT_HOLD_S) == []

    async def test_a_cancelled_take_keeps_nothing_from_others(self, bus: EventBus) -> None:
        group = bus.group("workers")
        await group.take()
        await bus.publish(*(make_event(number) for number in range(20)))
        for steps in range(6):
            task = asyncio.ensure_future(group.take())
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.cancel():
                await group.give_back(await task)
            await asyncio.wait([task])
        with anyio.fail_after(WAIT_S / 2):
            got: list[int] = []
            while len(got) < 20:
                got += numbers(await group.take(wait_s=WAIT_S))
        assert sorted(got) == list(range(20))

    async def test_a_group_passes_over_what_it_does_not_want(self, bus: EventBus) -> None:
        group = bus.group("workers", EventFilter(types=("job.*",)))
        for number in range(30):
            await bus.publish(make_event(number, type="job.done" if number % 10 == 0 else "turn.delta"))
        assert numbers(await group.take()) == [0, 10, 20]

    async def test_consumers_of_one_group_must_want_the_same(self, bus: EventBus) -> None:
        await bus.group("workers", EventFilter(types=("job.*",))).take()
        with pytest.raises(ConfigError, match="workers"):
            await bus.group("workers", EventFilter(types=("turn.*",))).take()

    async def test_events_of_another_bus_cannot_be_acknowledged(self, bus: EventBus) -> None:
        group = bus.group("workers")
        (event,) = await bus.publish(make_event(1))
        with pytest.raises(ConfigError, match="99"):
            await group.acknowledge([type(event).from_cloudevent({**event.as_cloudevent(), "seq": 99})])

    # --- what is not kept for ever ---

    async def test_old_events_make_way_and_followers_are_told(self, harness: BusHarness) -> None:
        async with small(harness) as bus:
            for number in range(1000):
                await bus.publish(make_event(number, data={"text": "x" * 1000}))
            await harness.settle(bus)
            kept = numbers(await bus.read())
            assert 0 < len(kept) < 900
            assert kept == list(range(kept[0], 1000))
            async with bus.subscribe(after=0) as subscription:
                missed, first = await next_of(subscription, 2)
                assert isinstance(missed, Missed)
                assert (missed.first, missed.last) == (1, kept[0])
                assert numbers([first]) == [kept[0]]

    async def test_a_group_is_told_once_what_was_removed_before_it_had_it(self, harness: BusHarness) -> None:
        async with small(harness) as bus:
            group = bus.group("workers")
            await group.take()
            for number in range(2000):
                await bus.publish(make_event(number, data={"text": "x" * 1000}))
            await harness.settle(bus)
            first = numbers(await bus.read())[0]
            assert first > 0
            missed = await group.missed()
            assert missed[0].first == 1
            assert missed[-1].last == first
            assert await group.missed() == []
            assert numbers(await group.take(1)) == [first]

    # --- the end, and after it ---

    async def test_a_bus_may_be_closed_twice_and_then_refuses(self, harness: BusHarness) -> None:
        bus = harness.make()
        await bus.open()
        with anyio.fail_after(WAIT_S):
            await bus.close()
            await bus.close()
        with pytest.raises(ClaudeCommsError, match=r"[Oo]pen"):
            await bus.publish(make_event(1))
        with pytest.raises(ClaudeCommsError, match=r"[Oo]pen"):
            bus.post(make_event(1))

    async def test_everything_is_there_when_it_is_opened_again(self, harness: BusHarness) -> None:
        self._needs_durability(harness)
        async with opened(harness.make()) as bus:
            group = bus.group("workers")
            await bus.publish(*(make_event(number) for number in range(6)))
            events = await group.take(5)
            await group.acknowledge([events[0], events[2], events[4]])
            bus.post(make_event(6))
        async with opened(harness.make()) as bus:
            assert bus.last_seq == 7
            assert numbers(await bus.read()) == list(range(7))
            assert numbers(await bus.group("workers").take()) == [1, 3, 5, 6]
            (event,) = await bus.publish(make_event(7))
            assert event.seq == 8

    async def test_numbers_go_on_after_everything_was_removed(self, harness: BusHarness) -> None:
        self._needs_durability(harness)
        async with small(harness) as bus:
            for number in range(1000):
                await bus.publish(make_event(number, data={"text": "x" * 1000}))
            await harness.settle(bus)
            last = bus.last_seq
        async with small(harness) as bus:
            assert bus.last_seq == last
            (event,) = await bus.publish(make_event(1))
            assert event.seq == last + 1

    async def test_what_was_acknowledged_before_a_crash_is_not_delivered_after_it(self, harness: BusHarness) -> None:
        self._needs_durability(harness)
        bus = harness.make()
        await bus.open()
        group = bus.group("workers")
        await bus.publish(*(make_event(number) for number in range(10)))
        events = await group.take(6)
        await group.acknowledge(events[1:4])
        await harness.crash(bus)
        async with opened(harness.make()) as bus:
            group = bus.group("workers")
            await group.acknowledge([events[0]])  # its consumer has survived
            assert numbers(await group.take()) == [4, 5, 6, 7, 8, 9]

    def _needs_durability(self, harness: BusHarness) -> None:
        if not harness.durable:
            pytest.skip("this bus forgets everything when it is closed")


@asynccontextmanager
async def opened(bus: EventBus) -> AsyncGenerator[EventBus]:
    """`bus`, open, and closed after it."""
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def small(harness: BusHarness) -> AsyncGenerator[EventBus]:
    """A small bus of the harness, open; the test is skipped where there is none."""
    bus = harness.make_small()
    if bus is None:
        pytest.skip("this bus cannot be made small (harness: make_small)")
    async with opened(bus) as bus:
        yield bus


def event_bus_machine(make_harness: Callable[[], BusHarness]) -> type[RuleBasedStateMachine]:
    """A state machine over the buses of the harness that `make_harness` makes for each run."""
    from claude_comms.testing.conformance._event_bus_machine import make_machine

    return make_machine(make_harness)
