"""What becomes of a request before it is a queued job: checked, and made a row."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal_column, select

from claude_comms.errors import ConfigError, PoolExhaustedError
from claude_comms.jobs._rows import dumps, job_from, question_values
from claude_comms.jobs._tables import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from claude_comms.jobs._job import Job, JobRequest

__all__ = ["IS_QUEUED", "new_values", "refuse_beyond", "with_key"]

# Written out, not bound: SQLite sees by the query alone that a partial index serves it.
IS_QUEUED = jobs.c.state == literal_column("'queued'")

_MOST_SECONDS = 366 * 86400.0
_LARGEST_PRIORITY = 2**31
_RETRY_AFTER_S = 10.0
_SAME = ("source", "target", "prompt", "data", "schema", "template", "context")
"""What makes two questions the same for an idempotency key."""


def new_values(request: JobRequest) -> dict[str, Any]:
    """The columns of a new job, but its id. See `JobStore.add` for what is refused."""
    question, now = request.question, datetime.now(UTC)
    _refuse_impossible(request)
    lasts = None if request.expires_in_s is None else timedelta(seconds=request.expires_in_s)
    values = question_values(question)
    return {
        "state": "queued",
        "source": question.source,
        "target": question.target,
        "prompt": question.prompt,
        "question": dumps(values),
        "idempotency_key": question.idempotency_key,
        "priority": request.priority,
        "created_at": now,
        "expires_at": None if lasts is None else now + lasts,
        "thread_id": question.thread_id,
        "callback": dumps(request.callback),
    }


def _refuse_impossible(request: JobRequest) -> None:
    lasts = request.expires_in_s
    if lasts is not None and not (math.isfinite(lasts) and 0 < lasts <= _MOST_SECONDS):
        raise ConfigError(f"expires_in_s: {lasts!r} cannot be. Give seconds from now, up to {_MOST_SECONDS:g}.")
    if not -_LARGEST_PRIORITY <= request.priority < _LARGEST_PRIORITY:
        raise ConfigError(f"priority: {request.priority} cannot be. Give a whole number around 0.")


def refuse_beyond(connection: Connection, most: int | None) -> None:
    """PoolExhaustedError where `most` jobs wait already."""
    if most is None:
        return
    queued = select(func.count()).select_from(jobs).where(IS_QUEUED)
    if connection.execute(queued).scalar_one() >= most:
        raise PoolExhaustedError(
            f"{most} jobs wait already. Start it later, or cancel some.", limit=most, retry_after_s=_RETRY_AFTER_S
        )


def with_key(connection: Connection, values: Mapping[str, Any]) -> Job | None:
    """The job that has the idempotency key of `values` already. ConfigError if that is another question's."""
    key = values["idempotency_key"]
    if key is None:
        return None
    row = connection.execute(select(jobs).where(jobs.c.idempotency_key == key)).one_or_none()
    if row is None:
        return None
    known, wanted = json.loads(row.question), json.loads(values["question"])
    if any(known.get(name) != wanted.get(name) for name in _SAME):
        raise ConfigError(f"the idempotency key {key!r} belongs to another job's question. Take a new key.")
    return job_from(row)
