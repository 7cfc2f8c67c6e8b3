"""Why jobs end without an answer, as they keep it: JSON values that a typed error can be made of again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.errors import ClaudeCommsError, DaemonError, DeadlineExceededError, TurnFailedError

if TYPE_CHECKING:
    from claude_comms.jobs._job import Job

__all__ = ["abandoned", "as_facts", "cancelled", "expired", "stopped"]


def as_facts(error: BaseException) -> dict[str, Any]:
    """`error` as a job keeps it. A stranger's is told by its name and text alone."""
    if isinstance(error, ClaudeCommsError):
        return error.as_dict()
    return {"type": "InternalError", "message": f"{type(error).__name__}: {error}. Please report this."}


def abandoned(thread_id: str | None) -> dict[str, Any]:
    """For a job that ran when its daemon died."""
    return _in_thread(DaemonError(f"the daemon died while it ran; ask again{_where(thread_id)}."), thread_id)


def stopped(thread_id: str | None) -> dict[str, Any]:
    """For a job that ran when its daemon was told to stop."""
    return _in_thread(DaemonError(f"the daemon was stopped while it ran; ask again{_where(thread_id)}."), thread_id)


def expired(job: Job, *, waited_s: float) -> dict[str, Any]:
    """For a job that waited until its time was over."""
    error = DeadlineExceededError(
        f"the job was not started within {waited_s:g} s. Ask again with a higher priority or more time.",
        deadline_s=waited_s,
    )
    return _in_thread(error, job.thread_id)


def cancelled(thread_id: str | None, *, started: bool) -> dict[str, Any]:
    """For a job that somebody cancelled."""
    when = "while it ran; what had come of its answer is stored as partial" if started else "before it was started"
    return _in_thread(TurnFailedError(f"the job was cancelled {when}. Ask again.", reason="interrupted"), thread_id)


def _where(thread_id: str | None) -> str:
    return f", in the conversation {thread_id}" if thread_id else ""


def _in_thread(error: ClaudeCommsError, thread_id: str | None) -> dict[str, Any]:
    error.thread_id = thread_id
    return error.as_dict()
