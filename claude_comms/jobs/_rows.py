"""Between rows and jobs; questions as JSON and back."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.jobs._job import Job, JobState
from claude_comms.jsonable import to_json_value
from claude_comms.types import Question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

__all__ = ["dumps", "job_from", "question_from", "question_values"]

_IN_PROCESS = ("check",)
"""What of a question means nothing to another process."""


def question_values(question: Question) -> dict[str, Any]:
    """`question` as JSON values, `check` left out. ContextError names the place of what is no JSON value."""
    values: dict[str, Any] = {}
    for item in fields(question):
        value = getattr(question, item.name)
        if item.name not in _IN_PROCESS and value is not None:
            values[item.name] = to_json_value(str(value) if isinstance(value, Path) else value, field=item.name)
    return values


def question_from(text: str) -> Question:
    """The question that `question_values` made JSON of. What another version has added is left out."""
    known = {item.name for item in fields(Question)} - {*_IN_PROCESS}
    values = {name: value for name, value in json.loads(text).items() if name in known}
    if "source_path" in values:
        values["source_path"] = Path(values["source_path"])
    values["chain"] = tuple(values.get("chain", ()))
    return Question(**values)


def dumps(value: object) -> str | None:
    """`value` as JSON text that can be stored whatever it holds; None for None."""
    return None if value is None else json.dumps(value, default=str)


def job_from(row: Row[Any]) -> Job:
    """The job of a row that has all columns of `jobs`."""
    return Job(
        job_id=row.job_id,
        state=JobState(row.state),
        source=row.source,
        target=row.target,
        prompt=row.prompt,
        priority=row.priority,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        expires_at=row.expires_at,
        thread_id=row.thread_id,
        progress=_mapping(row.progress) or {},
        reply=_mapping(row.reply),
        error=_mapping(row.error),
        callback=_callback(row.callback),
        callback_result=row.callback_result,
    )


def _mapping(text: str | None) -> Mapping[str, Any] | None:
    return None if text is None else json.loads(text)


def _callback(text: str | None) -> str | tuple[str, ...] | None:
    if text is None:
        return None
    value = json.loads(text)
    return value if isinstance(value, str) else tuple(value)
