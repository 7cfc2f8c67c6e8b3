"""Column types that SQLite lacks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = ["UtcDateTime", "utc_text"]


def utc_text(value: datetime) -> str:
    """`value` as `UtcDateTime` stores it. ValueError for a naive one."""
    if value.tzinfo is None:
        raise ValueError("a naive datetime cannot be stored; give it a time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time as ISO 8601 text in UTC, always with microseconds, so that text order is time order.

    Takes aware datetimes of any zone and gives them back in UTC; naive ones raise ValueError.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To the text that is stored."""
        return None if value is None else utc_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the text that was stored."""
        return None if value is None else datetime.fromisoformat(value)
