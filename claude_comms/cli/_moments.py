"""Where in the past to begin: a cursor, a duration back from now, or a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from claude_comms.events import Event

__all__ = ["ALL_THAT_IS_KEPT", "Since", "read_moment", "read_since"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


@dataclass(frozen=True, slots=True)
class Since:
    """From where events are wanted: those behind the `cursor`, and of them those from `moment` on."""

    cursor: int = 0
    moment: datetime | None = None

    def holds(self, event: Event) -> bool:
        """Whether `event` is one of them."""
        return event.seq > self.cursor and (self.moment is None or event.time >= self.moment)


ALL_THAT_IS_KEPT = Since()


def read_since(text: str | None, *, now: datetime | None = None) -> Since:
    """``--since`` of a command that follows events; None is all that is kept."""
    if text is None:
        return ALL_THAT_IS_KEPT
    if text.isascii() and text.isdigit():
        return Since(cursor=int(text))
    return Since(moment=read_moment(text, "--since", now=now))


def read_moment(text: str, option: str, *, now: datetime | None = None) -> datetime:
    """A duration back from `now` (``90s``, ``10m``, ``2h``, ``7d``, ``1w``), or a time: ISO 8601 or ``14:30``.

    What says no time zone is meant as the reader's clock shows it.
    """
    now = now or datetime.now(UTC)
    duration = _DURATION.fullmatch(text.strip())
    try:
        if duration is not None:
            return now - timedelta(**{_UNITS[duration[2]]: float(duration[1])})
        return _time(text.strip(), now)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no time. Give a duration such as 10m, 2h or 7d, or a time such as 14:30 or 2026-01-31T14:30.",
            param_hint=option,
        ) from error


def _time(text: str, now: datetime) -> datetime:
    if "-" not in text and ":" in text:
        moment = datetime.combine(now.astimezone().date(), time.fromisoformat(text))
    elif len(text) == len("2026-01-31"):
        moment = datetime.combine(date.fromisoformat(text), time())
    else:
        moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC)
