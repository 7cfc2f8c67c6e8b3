"""What happens to jobs, as events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from claude_comms.events import NewEvent, Priority
from claude_comms.jobs._job import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.jobs._job import Job

__all__ = ["guarded", "job_event"]

_LOG = logging.getLogger(__name__)


def guarded(post: Callable[[NewEvent], None]) -> Callable[[NewEvent], None]:
    """`post`, but what goes wrong in it is logged: no job may hang on whether somebody can be told of it."""

    def post_guarded(event: NewEvent) -> None:
        try:
            post(event)
        except Exception:  # noqa: BLE001 - whatever it was, the job goes on
            _LOG.exception("%s of %s could not be told", event.type, event.subject)

    return post_guarded


def job_event(job: Job, what: str | None = None, **more: Any) -> NewEvent:
    """``job.queued|started|done|failed|cancelled``, by the job's state, or ``job.`` and `what`.

    The subject is the job's id. `data` says what it is and how it stands; the reply is asked for, not told.
    """
    state = str(job.state)
    data = {
        "job_id": job.job_id,
        "state": state,
        "source": job.source,
        "target": job.target,
        "priority": job.priority,
        "thread_id": job.thread_id,
        **({"progress": dict(job.progress)} if job.progress else {}),
        **({"error": dict(job.error)} if job.error else {}),
        **more,
    }
    kind = what or ("started" if job.state is JobState.RUNNING else state)
    urgency = Priority.HIGH if kind == JobState.FAILED else Priority.LOW if kind == "progress" else Priority.NORMAL
    return NewEvent(f"job.{kind}", job.job_id, f"{job.source}/{job.target}", data, priority=urgency)
