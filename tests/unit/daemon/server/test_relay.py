"""A turn's events reach the asker each once and in order, however slow the asker and whatever it came back with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio
from daemon_support import ListBus, ListSubscription, ScriptEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_comms.daemon.server._hosted import HostedTurn, Outcome
from claude_comms.daemon.server._relay import Relay
from claude_comms.events import Event, Missed, NewEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.events import EventFilter


class TornSubscription(ListSubscription):
    """After some events it says that it was too slow for the rest, as a bus says to a slow reader."""

    def __init__(self, bus: ListBus, wanted: EventFilter | None, after: int, passes: int) -> None:
        super().__init__(bus, wanted, after, 0)
        self._passes = passes

    def __aiter__(self) -> Self:
        return self

    def ready(self) -> list[Event | Missed]:
        there: list[Event | Missed] = []
        while self._passes != 0 and (event := self.next_now()) is not None:
            there.append(event)
            self._passes -= 1
        if self._passes == 0:
            self._passes = -1
            there.append(Missed(1, len(self._bus.events), "too slow"))
        return there

    async def __anext__(self) -> Event | Missed:
        if self._passes == 0:
            self._passes = -1
            return Missed(1, len(self._bus.events), "too slow")
        self._passes -= 1
        return await super().__anext__()


class TornEngine(ScriptEngine):
    """Each of its subscriptions tears after so many events; the last one holds."""

    tears: list[int]

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> ListSubscription:
        return TornSubscription(self.bus, wanted, after or 0, self.tears.pop(0) if self.tears else -1)


def _bus(pieces: int, noise: int) -> ListBus:
    bus = ListBus()
    for number in range(pieces):
        for _ in range(noise):
            bus.post(NewEvent("turn.delta", "c_2", "marker/arangodb", {"turn_id": "t_other", "text": "no"}))
        bus.post(NewEvent("turn.delta", "c_1", "marker/arangodb", {"turn_id": "t_1", "text": str(number)}))
    bus.post(NewEvent("turn.completed", "c_1", "marker/arangodb", {"turn_id": "t_1", "reply": {"response": "yes"}}))
    return bus


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.integers(0, 12),
    noise=st.integers(0, 2),
    tears=st.lists(st.integers(1, 4), max_size=6),
    breaks=st.lists(st.integers(1, 5), max_size=4),
)
def test_a_reader_that_falls_behind_and_comes_back_gets_everything_once(
    pieces: int, noise: int, tears: list[int], breaks: list[int]
) -> None:
    async def read() -> tuple[list[Event], Outcome]:
        engine = TornEngine(_bus(pieces, noise))
        engine.tears = list(tears)
        hosted = HostedTurn("t_1", 0)
        hosted.is_elsewhere()
        seen: list[Event] = []
        for limit in breaks:
            reader = _Reader(seen, limit)
            try:
                return seen, await Relay(engine, hosted, reader.take, after=seen[-1].seq if seen else 0).run()
            except ConnectionError:
                continue
        return seen, await Relay(engine, hosted, _Reader(seen, -1).take, after=seen[-1].seq if seen else 0).run()

    with_all, outcome = anyio.run(read)

    texts = [event.data["text"] for event in with_all if event.type == "turn.delta"]
    assert texts == [str(number) for number in range(pieces)]
    assert [event.type for event in with_all][-1] == "turn.completed"
    assert len({event.seq for event in with_all}) == len(with_all)
    assert outcome == Outcome(reply={"response": "yes"})


class _Reader:
    """Takes `limit` events, and is gone."""

    def __init__(self, seen: list[Event], limit: int) -> None:
        self._seen = seen
        self._limit = limit

    async def take(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._limit == 0:
                raise ConnectionResetError
            self._limit -= 1
            self._seen.append(event)
