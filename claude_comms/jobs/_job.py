"""Jobs as callers see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from claude_comms.types import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from claude_comms.types import Question

__all__ = ["Job", "JobRequest", "JobState"]


class JobState(StrEnum):
    """queued → running → done, failed or cancelled; a queued one may also be cancelled, or fail by expiring."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A question to be asked in the background.

    `callback` is told the job's end: a command (a sequence of arguments, run without a shell, the job as JSON on
    its stdin), or an ``http://`` URL (the job as a JSON body).
    """

    question: Question
    priority: int = 0
    """Higher ones go first; equal ones in the order they came."""
    expires_in_s: float | None = None
    """A job that has not started by then fails."""
    callback: str | tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Job(Record):
    """A background question as it stands."""

    job_id: str
    state: JobState
    source: str
    target: str
    prompt: str
    priority: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    thread_id: str | None = None
    """Known once the question is stored, or where it continues a conversation."""
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """How far a running one has come: `characters` of the answer so far, `tools` used."""
    reply: Mapping[str, Any] | None = None
    """The whole Reply of one that is done."""
    error: Mapping[str, Any] | None = None
    """Why one failed or was cancelled: `type`, `message` and facts."""
    callback: str | tuple[str, ...] | None = None
    callback_result: str | None = None
    """What came of telling the callback; None before that, or without one."""
