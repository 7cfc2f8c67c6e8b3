"""Parameters that several routes take."""

from typing import Annotated

from fastapi import Header, Path, Query
from pydantic import AwareDatetime, Field

from claude_comms.daemon.wire import FilterModel

__all__ = [
    "Accept",
    "Cursor",
    "EventsQuery",
    "LastEventId",
    "Limit",
    "Module",
    "Moment",
    "WantedId",
    "WantedName",
    "last_seen",
    "wants_stream",
]

_NO_NUL = r"^[^\x00]*$"

WantedId = Annotated[str, Path(min_length=1, max_length=128, pattern=_NO_NUL)]
"""An id, any unique beginning of one, or a name."""

WantedName = Annotated[str, Path(min_length=1, max_length=256, pattern=_NO_NUL)]

Module = Annotated[str | None, Query(min_length=1, max_length=256, pattern=_NO_NUL)]

Limit = Annotated[int, Query(ge=1, le=1000)]

Cursor = Annotated[int | None, Query(ge=0, le=2**63 - 1)]

Moment = Annotated[AwareDatetime | None, Query()]

Accept = Annotated[str | None, Header(include_in_schema=False)]
"""OpenAPI tells of it by the content types of the answers."""

LastEventId = Annotated[int | None, Header(ge=0, le=2**63 - 1)]


class EventsQuery(FilterModel):
    """Which events, and which of those."""

    after: int | None = Field(default=None, ge=0, le=2**63 - 1)
    limit: int = Field(default=1000, ge=1, le=10_000)


def wants_stream(accept: str | None) -> bool:
    """Whether server-sent events are asked for."""
    return accept is not None and "text/event-stream" in accept


def last_seen(after: int | None, last_event_id: int | None) -> int | None:
    """The cursor, from wherever it was given; a reader that comes back by itself sends it as Last-Event-ID."""
    return after if last_event_id is None else last_event_id
