"""What turns have cost, added up by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from claude_comms.errors import ConfigError
from claude_comms.protocols import UsageBy
from claude_comms.storage import driver_of, utc_text
from claude_comms.types import Usage, UsageRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

__all__ = ["usage"]

_GROUPS: dict[UsageBy, str] = {
    "pair": "source || '/' || target",
    "source": "source",
    "target": "target",
    "backend": "coalesce(backend, 'unknown')",
    "model": "coalesce(model, 'unknown')",
    "day": "substr(created_at, 1, 10)",
    "all": "'all'",
}
_OF_PAIRS = ("pair", "source", "target")

# The first condition is the index's own, to the letter: without it SQLite would read the messages themselves.
_COUNTED = """
(input_tokens IS NOT NULL OR (role = 'answer' AND state = 'complete'))
AND ((role = 'answer' AND state = 'complete')
     OR input_tokens + output_tokens + cache_read_tokens + cache_write_tokens > 0 OR cost_usd > 0)
"""
_SUMS = """
count(*) AS turns, sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cache_read_tokens) AS cache_read,
sum(cache_write_tokens) AS cache_write, sum(cost_usd) AS cost
"""
# Threads first, then their pairs: so each conversation is looked up once, not once for each of its messages.
_BY_THREAD = """
SELECT {group} AS name, sum(turns), sum(input), sum(output), sum(cache_read), sum(cache_write), sum(cost) AS cost
FROM (SELECT thread_id, {sums} FROM messages INDEXED BY messages_usage WHERE {where} GROUP BY thread_id)
     JOIN conversations USING (thread_id)
WHERE (:source IS NULL OR source = :source) AND (:target IS NULL OR target = :target)
GROUP BY name ORDER BY {order}
"""
_BY_MESSAGE = """
SELECT {group} AS name, {sums} FROM messages INDEXED BY messages_usage
WHERE {where} GROUP BY name ORDER BY {order}
"""
_THREADS = """
 AND thread_id IN (SELECT thread_id FROM conversations
                   WHERE (:source IS NULL OR source = :source) AND (:target IS NULL OR target = :target))
"""
_DEAREST_FIRST = "cost IS NULL, cost DESC, 2 DESC, name"


def usage(
    connection: Connection,
    by: UsageBy,
    *,
    source: str | None,
    target: str | None,
    since: datetime | None,
    until: datetime | None,
) -> list[UsageRow]:
    """The rows of `by`, the dearest first; days in their order. See `ConversationStore.usage`."""
    if by not in get_args(UsageBy):
        raise ConfigError(f"by: usage cannot be grouped by {by!r}. Known: {', '.join(get_args(UsageBy))}.")
    values = {"source": source, "target": target, "since": _moment("since", since), "until": _moment("until", until)}
    rows = driver_of(connection).execute(_query(by, values), values)
    return [_row(*row) for row in rows]


def _query(by: UsageBy, values: dict[str, str | None]) -> str:
    where = _COUNTED
    if values["since"] is not None:
        where += " AND created_at >= :since"
    if values["until"] is not None:
        where += " AND created_at < :until"
    of_pairs = by in _OF_PAIRS
    if not of_pairs and (values["source"] is not None or values["target"] is not None):
        where += _THREADS
    shape = _BY_THREAD if of_pairs else _BY_MESSAGE
    order = "name" if by == "day" else _DEAREST_FIRST
    return shape.format(group=_GROUPS[by], sums=_SUMS, where=where, order=order)


def _moment(name: str, value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ConfigError(f"{name}: {value.isoformat()} has no time zone. Give one, such as +00:00.")
    return utc_text(value)


def _row(group: str, turns: int, *sums: Any) -> UsageRow:
    *tokens, cost = sums
    return UsageRow(group, turns, Usage(*(count or 0 for count in tokens), cost_usd=cost))
