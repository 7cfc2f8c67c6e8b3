"""Routes about what is kept: modules, conversations, usage."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from claude_comms.daemon.server._answers import Json
from claude_comms.daemon.server._queries import Limit, Module, Moment, WantedId, WantedName
from claude_comms.daemon.server._service import ServiceOf
from claude_comms.daemon.wire import (
    ConversationModel,
    MatchModel,
    NewConversationModel,
    SearchHitModel,
    UsageRowModel,
    match_dict,
)
from claude_comms.errors import UnknownModuleError
from claude_comms.protocols import UsageBy
from claude_comms.types import ConversationState, Pair

__all__ = ["router"]

router = APIRouter(prefix="/v1")

_Words = Annotated[str | None, Query(max_length=10_000)]
_MEDIA_TYPES = {"json": "application/json", "markdown": "text/markdown; charset=utf-8"}


@router.get("/modules", responses={200: {"model": list[MatchModel]}}, tags=["modules"])
async def modules(
    service: ServiceOf, text: _Words = None, capability: Module = None, tag: Module = None, data_type: Module = None
) -> Response:
    """Modules that fit all that is given, ranked where there is a text."""
    found = await service.engine.find_modules(text, capability=capability, tag=tag, data_type=data_type)
    return Json([match_dict(match) for match in found])


@router.get("/modules/{name}", responses={200: {"model": MatchModel}}, tags=["modules"])
async def module(service: ServiceOf, name: WantedName) -> Response:
    """One module with its descriptor."""
    known = await service.engine.find_modules()
    for match in known:
        if match.module.name == name:
            return Json(match_dict(match))
    raise UnknownModuleError(name, [match.module.name for match in known])


@router.get("/conversations", responses={200: {"model": list[ConversationModel]}}, tags=["conversations"])
async def conversations(
    service: ServiceOf,
    source: Module = None,
    target: Module = None,
    state: Literal["active", "archived", "all"] = "active",
    limit: Limit = 50,
) -> Response:
    """Conversations without their messages, the newest first."""
    wanted = None if state == "all" else ConversationState(state)
    found = await service.engine.list_conversations(source=source, target=target, state=wanted, limit=limit)
    return Json([conversation.as_dict() for conversation in found])


@router.post("/conversations", responses={200: {"model": ConversationModel}}, tags=["conversations"])
async def create_conversation(service: ServiceOf, wanted: NewConversationModel) -> Response:
    """Begin an empty conversation."""
    service.admit()
    pair = Pair(wanted.source, wanted.target)
    return Json((await service.engine.create_conversation(pair, title=wanted.title)).as_dict())


@router.get("/conversations/search", responses={200: {"model": list[SearchHitModel]}}, tags=["conversations"])
async def search(
    service: ServiceOf,
    text: Annotated[str, Query(max_length=10_000)],
    source: Module = None,
    target: Module = None,
    limit: Limit = 20,
) -> Response:
    """Messages that hold the words of `text`, the best first."""
    found = await service.engine.search_conversations(text, source=source, target=target, limit=limit)
    return Json([hit.as_dict() for hit in found])


@router.get("/conversations/{wanted}", responses={200: {"model": ConversationModel}}, tags=["conversations"])
async def conversation(service: ServiceOf, wanted: WantedId) -> Response:
    """One with its messages, by its id or any unique beginning of it."""
    return Json((await service.engine.get_conversation(wanted)).as_dict())


@router.post("/conversations/{wanted}/archive", responses={200: {"model": ConversationModel}}, tags=["conversations"])
async def archive(service: ServiceOf, wanted: WantedId) -> Response:
    """Hide it from lists."""
    return Json((await service.engine.archive_conversation(wanted)).as_dict())


@router.post("/conversations/{wanted}/restore", responses={200: {"model": ConversationModel}}, tags=["conversations"])
async def restore(service: ServiceOf, wanted: WantedId) -> Response:
    """Take it out of the archive."""
    return Json((await service.engine.restore_conversation(wanted)).as_dict())


@router.get(
    "/conversations/{wanted}/export",
    response_class=Response,
    responses={200: {"content": {"application/json": {}, "text/markdown": {}}}},
    tags=["conversations"],
)
async def export(
    service: ServiceOf,
    wanted: WantedId,
    format: Annotated[str, Query(max_length=100)] = "json",  # noqa: A002 - the contract's name
) -> Response:
    """It as a file: `json` or `markdown`."""
    from claude_comms.conversations import export_conversation

    text = export_conversation(await service.engine.get_conversation(wanted), format)
    return Response(text.encode("utf-8", "replace"), media_type=_MEDIA_TYPES.get(format, "text/plain; charset=utf-8"))


@router.get("/usage", responses={200: {"model": list[UsageRowModel]}}, tags=["usage"])
async def usage(
    service: ServiceOf,
    by: UsageBy = "pair",
    source: Module = None,
    target: Module = None,
    since: Moment = None,
    until: Moment = None,
) -> Response:
    """What turns have cost, in groups."""
    rows = await service.engine.usage(by, source=source, target=target, since=since, until=until)
    return Json([row.as_dict() for row in rows])
