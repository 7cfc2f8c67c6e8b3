"""Who is told of which event on its way from the log into the loops."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from claude_comms.events import Event, Missed, Priority
from claude_comms.events._fanout import Hub

pytestmark = pytest.mark.anyio


class Ear:
    """Keeps what it is told."""

    def __init__(self, turn_id: str | None) -> None:
        self.turn_id = turn_id
        self.heard: list[Event | Missed] = []
        self.roused = 0
        self.ended = False

    def hear(self, event: Event | Missed, size_bytes: int) -> None:
        self.heard.append(event)

    def rouse(self, group: str) -> None:
        self.roused += 1

    def end(self) -> None:
        self.ended = True


def event(seq: int, turn_id: object) -> Event:
    data = {} if turn_id is None else {"turn_id": turn_id}
    return Event(seq, f"e_{seq}", "turn.delta", "c_1", "a/b", Priority.LOW, datetime.now(UTC), data)


async def told(hub: Hub, *events: Event) -> None:
    hub.announce([(item, 10) for item in events])
    await asyncio.sleep(0)


async def test_who_follows_one_turn_is_not_asked_about_the_events_of_others() -> None:
    hub = Hub(lambda: 0)
    of_a, other_of_a, of_b, of_all = ears = [Ear("a"), Ear("a"), Ear("b"), Ear(None)]
    inboxes = [hub.join(ear) for ear in ears]
    events = [event(1, "a"), event(2, "b"), event(3, None), event(4, ["a"]), event(5, "c")]
    await told(hub, *events)
    assert of_a.heard == other_of_a.heard == events[:1]
    assert of_b.heard == events[1:2]
    assert of_all.heard == events
    hub.leave(inboxes[0], of_a)
    await told(hub, event(6, "a"))
    assert (len(of_a.heard), len(other_of_a.heard)) == (1, 2)


async def test_what_concerns_all_reaches_those_of_one_turn_too() -> None:
    hub = Hub(lambda: 0)
    ears = [Ear("a"), Ear(None)]
    for ear in ears:
        hub.join(ear)
    hub.rouse("group")
    hub.end()
    await asyncio.sleep(0)
    assert [(ear.roused, ear.ended) for ear in ears] == [(1, True), (1, True)]


async def test_nobody_is_heard_once_all_have_left() -> None:
    hub = Hub(lambda: 0)
    ear = Ear("a")
    inbox = hub.join(ear)
    assert hub.is_heard
    hub.leave(inbox, ear)
    hub.leave(inbox, ear)
    assert not hub.is_heard
