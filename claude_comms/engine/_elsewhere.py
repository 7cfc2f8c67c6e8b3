"""Turns that an instance had outside the engine, in a terminal that was handed to it: stored, told and charged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from claude_comms.engine._news import TurnNews
from claude_comms.text import shorten
from claude_comms.types import Pair, Reply, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.background.instance import Instance
    from claude_comms.engine._asking import Parts
    from claude_comms.engine._outlet import Outlet
    from claude_comms.types import Message, TerminalTurn

__all__ = ["store_turns"]

_TITLE_WIDTH = 80


async def store_turns(parts: Parts, outlet: Outlet, instance: Instance, turns: Sequence[TerminalTurn]) -> str | None:
    """Store them as turns of the conversation that the instance holds, or of a new one; its id.

    A caller that goes away does not undo it: they were had, and are nowhere else.
    """
    info = parts.pool.info(instance)
    pair, thread_id = Pair(info.source, info.target), info.thread_id
    with anyio.CancelScope(shield=True):
        for had in turns:
            thread_id = (await _store(parts, TurnNews(outlet, new_id("t"), pair), instance, thread_id, had)).thread_id
    return thread_id


async def _store(parts: Parts, news: TurnNews, instance: Instance, thread_id: str | None, had: TerminalTurn) -> Message:
    spec, instance_id = instance.spec, instance.instance_id
    title = shorten(had.question, _TITLE_WIDTH)
    asked = await parts.store.begin_turn(
        thread_id=thread_id,
        pair=spec.pair,
        text=had.question,
        sent_text=had.question,
        backend=spec.backend,
        model=had.model,
        title=title,
        turn_id=news.turn_id,
    )
    news.message(asked, instance_id=instance_id)
    if thread_id is None:
        news.began(title)
    answer = await parts.store.complete_turn(
        asked.message_id,
        text=had.answer,
        model=had.model,
        backend=spec.backend,
        instance_id=instance_id,
        usage=parts.prices.priced(had.usage, had.model),
        price_date=parts.prices.price_date,
        stop_reason=had.stop_reason,
        session_handle=had.handle,
    )
    news.message(answer, instance_id=instance_id)
    instance.charge(answer.usage or had.usage)
    news.completed(_reply(answer, instance, had))
    return answer


def _reply(answer: Message, instance: Instance, had: TerminalTurn) -> Reply:
    """The answer as who asks through the engine gets it. How long it took, nobody has measured."""
    spec = instance.spec
    return Reply(
        response=had.answer,
        data=None,
        thread_id=answer.thread_id,
        message_id=answer.message_id,
        source=spec.pair.source,
        target=spec.pair.target,
        instance_id=instance.instance_id,
        backend=spec.backend,
        model=had.model,
        usage=answer.usage or had.usage,
        stop_reason=had.stop_reason,
        duration_ms=0.0,
    )
