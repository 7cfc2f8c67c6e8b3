"""Routes that ask: messages, the turns they become, what is sent for them, and the events of everything."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from claude_comms.daemon.server._answers import Json, problem_response
from claude_comms.daemon.server._hosted import HostedTurn
from claude_comms.daemon.server._queries import (
    Accept,
    Cursor,
    EventsQuery,
    LastEventId,
    WantedId,
    last_seen,
    wants_stream,
)
from claude_comms.daemon.server._service import Service, ServiceOf
from claude_comms.daemon.server._streams import EventStream
from claude_comms.daemon.wire import (
    EventModel,
    PreviewModel,
    QuestionModel,
    ReplyModel,
    preview_dict,
)
from claude_comms.errors import ConfigError
from claude_comms.events import Event

__all__ = ["router"]

router = APIRouter(prefix="/v1")

_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post("/messages", responses={200: {"model": ReplyModel, "content": _STREAM}}, tags=["messages"])
async def ask(
    service: ServiceOf,
    asked: QuestionModel,
    accept: Accept = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=256)] = None,
) -> Response:
    """Ask. The answer is a Reply; with ``Accept: text/event-stream`` it comes as it is made, as events of the turn.

    A client that goes away leaves the turn running; the same `turn_id` finds it again and never asks twice.
    """
    hosted = service.turns.ask(_keyed(asked, idempotency_key).inner())
    return await _answer(service, hosted, accept, None)


def _keyed(asked: QuestionModel, key: str | None) -> QuestionModel:
    if key is None or asked.idempotency_key == key:
        return asked
    if asked.idempotency_key is not None:
        raise ConfigError("idempotency_key and the header Idempotency-Key differ. Give one of them.")
    return asked.model_copy(update={"idempotency_key": key})


async def _answer(service: Service, hosted: HostedTurn, accept: str | None, after: int | None) -> Response:
    """A turn's events, or its end."""
    if wants_stream(accept):
        return EventStream(partial(service.turns.relay, hosted, after=after or 0), service)
    await hosted.settled.wait()
    if not hosted.elsewhere:
        await hosted.ended.wait()
    outcome = hosted.outcome or await service.turns.relay(hosted, _unheard)
    if outcome.reply is None:
        return problem_response(outcome.error or {})
    return Json(outcome.reply, headers={"Claude-Comms-Turn": hosted.turn_id})


async def _unheard(events: Sequence[Event]) -> None:
    """Only the end is wanted."""


@router.post("/messages/preview", responses={200: {"model": PreviewModel}}, tags=["messages"])
async def preview(service: ServiceOf, asked: QuestionModel) -> Response:
    """What would be sent for a question, and to whom. Nothing is asked or stored."""
    return Json(preview_dict(await service.engine.preview(asked.inner())))


@router.get(
    "/turns/{turn_id}/events",
    response_class=Response,
    responses={200: {"content": _STREAM}},
    tags=["messages"],
)
async def turn_events(
    service: ServiceOf, turn_id: WantedId, after: Cursor = None, last_event_id: LastEventId = None
) -> Response:
    """The events of a turn from a cursor on, to its end."""
    hosted = await service.turns.find(turn_id)
    return await _answer(service, hosted, "text/event-stream", last_seen(after, last_event_id))


@router.post(
    "/turns/{turn_id}/cancel",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    tags=["messages"],
)
async def cancel(service: ServiceOf, turn_id: WantedId) -> Response:
    """Interrupt a turn. `running` is false where it had ended already, or is a job's: cancel the job then."""
    hosted = await service.turns.find(turn_id)
    return Json({"turn_id": turn_id, "running": await hosted.interrupt()})


@router.get("/events", responses={200: {"model": list[EventModel], "content": _STREAM}}, tags=["events"])
async def events(
    service: ServiceOf,
    query: Annotated[EventsQuery, Query()],
    accept: Accept = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Kept events behind a cursor, the oldest first; with ``Accept: text/event-stream`` it follows, or from now on."""
    wanted = query.inner()
    cursor = last_seen(query.after, last_event_id)
    if not wants_stream(accept):
        found = await service.bus.read(wanted, after=cursor or 0, limit=query.limit)
        return Json([event.as_cloudevent() for event in found])

    async def follow(deliver: Any) -> None:
        async with service.engine.follow(wanted, after=cursor) as following:
            async for first in following:
                await deliver([first, *following.ready()])

    return EventStream(follow, service)
