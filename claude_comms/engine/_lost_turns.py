"""Turns that a dead process left without an end: what became of them is told once, when an engine opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.engine._news import TurnNews
from claude_comms.engine._outlet import Gathered
from claude_comms.engine._replay import reply_of
from claude_comms.errors import TurnFailedError, error_from_dict
from claude_comms.events import EventFilter
from claude_comms.types import MessageState, Pair, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from claude_comms.conversations import ConversationStore, KeyedTurn
    from claude_comms.engine._outlet import Outlet
    from claude_comms.events import Event, EventBus
    from claude_comms.types import Message

__all__ = ["tell_of_lost_turns"]

_LOOK_BACK = 200_000
"""Events. A turn that began longer ago than that has no reader who waits for its end."""

_PAGE = 10_000
_FIRST_EVENTS = 4
_ENDS = frozenset({"turn.completed", "turn.failed", "turn.interrupted"})
_TURNS = EventFilter(types=("turn.started", *sorted(_ENDS)))


async def tell_of_lost_turns(
    bus: EventBus, outlet: Outlet, store: ConversationStore, abandoned: Iterable[Message]
) -> None:
    """Give each turn of the log that has no end one, from what the store says; and each of the `abandoned`.

    Durable once this returns: who asks for such a turn again finds it in the log, and it is not asked twice.
    """
    lost = await _without_end(bus)
    for message in abandoned:
        if message.turn_id and message.role is Role.QUESTION and not await _has_end(bus, message.turn_id):
            lost[message.turn_id] = None
    ends = Gathered(bus, heard=outlet.heard)
    for turn_id in lost:
        turn = await store.by_turn(turn_id)
        if turn is not None:
            conversation = await store.get(turn.question.thread_id, messages=False)
            news = TurnNews(ends, turn_id, Pair(conversation.source, conversation.target))
            _tell_end(news, turn, conversation.target, await _instance_of(bus, turn))
    await ends.published()


async def _has_end(bus: EventBus, turn_id: str) -> bool:
    """Whether the end was told, and only the store did not come to hear of it."""
    return bool(await bus.read(EventFilter(types=tuple(_ENDS), turn_id=turn_id), limit=1))


async def _instance_of(bus: EventBus, turn: KeyedTurn) -> str | None:
    """Who was answering: the store may have been told only of the question."""
    asked = turn.question
    if asked.instance_id is not None:
        return asked.instance_id
    events = await bus.read(EventFilter(turn_id=asked.turn_id), limit=_FIRST_EVENTS)
    return next((event.data["instance_id"] for event in events if "instance_id" in event.data), None)


async def _without_end(bus: EventBus) -> dict[str, None]:
    open_turns: dict[str, None] = {}
    async for event in _turn_events(bus):
        turn_id = str(event.data["turn_id"])
        if event.type in _ENDS:
            open_turns.pop(turn_id, None)
        else:
            open_turns[turn_id] = None
    return open_turns


async def _turn_events(bus: EventBus) -> AsyncIterator[Event]:
    after = max(0, bus.last_seq - _LOOK_BACK)
    while events := await bus.read(_TURNS, after=after, limit=_PAGE):
        for event in events:
            yield event
        after = events[-1].seq


def _tell_end(news: TurnNews, turn: KeyedTurn, target: str, instance_id: str | None) -> None:
    asked, answer, _ = turn
    news.is_known(asked.thread_id, instance_id)
    if answer is not None:
        news.completed(reply_of(answer, source=asked.speaker, target=target, value=answer.data))
    elif asked.state is not MessageState.PENDING:
        news.failed(error_from_dict(asked.error) if asked.error else _unknown(asked))


def _unknown(asked: Message) -> TurnFailedError:
    error = TurnFailedError("the turn ended without an answer. Ask again.", reason="cut", backend=asked.backend)
    error.thread_id = asked.thread_id
    return error
