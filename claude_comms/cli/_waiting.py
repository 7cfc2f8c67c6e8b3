"""Background questions: as a list, one by one, waited for, called off."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._access import background
from claude_comms.cli._interrupted import Interrupted
from claude_comms.cli._progress import Progress
from claude_comms.cli._short_ids import short_ids
from claude_comms.cli._wording import local_time, seconds, usage
from claude_comms.jobs import JobState
from claude_comms.types import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_comms.jobs import Job

__all__ = ["cancel", "show_jobs", "show_one", "wait"]

_ROOM_FOR_ALL = 76
"""Columns."""


def show_jobs(state: str | None, limit: int, *, no_daemon: bool, as_json: bool) -> None:
    """Jobs, the newest first."""
    with background(no_daemon=no_daemon) as engine:
        found = engine.list_jobs(state=JobState(state) if state is not None else None, limit=limit)
    if as_json:
        console.document([job.as_dict() for job in found])
    elif found:
        _print_list(found)
    else:
        console.note('No jobs. Start one: claude-comms query-module TARGET "PROMPT" --background')


def show_one(wanted: str, *, no_daemon: bool, as_json: bool) -> None:
    """A job as it stands."""
    with background(no_daemon=no_daemon) as engine:
        job = engine.get_job(wanted)
    _show(job, as_json=as_json)


def wait(wanted: str, timeout_s: float | None, *, no_daemon: bool, as_json: bool) -> None:
    """A job once it has ended; exit 1 unless it is done. Ctrl-C ends the waiting and not the job."""
    with background(no_daemon=no_daemon, watching=True) as engine:
        job_id = engine.get_job(wanted).job_id
        try:
            with Progress(f"waiting for {job_id}"):
                job = engine.wait_job(job_id, timeout_s=timeout_s)
        except KeyboardInterrupt as interruption:
            told = f"Interrupted. The job goes on; wait for it again: claude-comms wait-job {job_id}"
            facts = {"type": "KeyboardInterrupt", "message": told, "job_id": job_id}
            raise Interrupted(told, facts) from interruption
    _show(job, as_json=as_json)
    if job.state is not JobState.DONE:
        raise typer.Exit(1)


def cancel(wanted: str, *, no_daemon: bool, as_json: bool) -> None:
    """Call a job off, and print what it is then."""
    with background(no_daemon=no_daemon) as engine:
        job = engine.cancel_job(wanted)
    if as_json:
        console.document(job.as_dict())
    else:
        console.result(f"{job.job_id} is {job.state}")


def _show(job: Job, *, as_json: bool) -> None:
    """The answer of one that is done, to stdout; everything about it, to people."""
    if as_json:
        console.document(job.as_dict())
        return
    console.note(f"{job.job_id} · {job.source} → {job.target} · {job.state}")
    for line in _remarks(job):
        console.note(line)
    if job.reply is not None:
        _print_reply(job.reply)
    elif job.error is not None:
        console.result(f"{job.error.get('type', 'error')}: {job.error.get('message', '')}")
    else:
        console.result(str(job.state))


def _remarks(job: Job) -> list[str]:
    times = [("asked", job.created_at), ("begun", job.started_at), ("ended", job.ended_at)]
    told = [f"{what} {local_time(moment)}" for what, moment in times if moment is not None]
    if job.expires_at is not None and job.started_at is None:
        told.append(f"expires {local_time(job.expires_at)}")
    progress = ", ".join(f"{value} {name}" for name, value in job.progress.items() if not job.state.ended)
    lines = [" · ".join(told), console.shorten(job.prompt, 200)]
    lines += [f"so far: {progress}"] if progress else []
    lines += [f"thread {job.thread_id}"] if job.thread_id else []
    return [*lines, *([f"callback: {job.callback_result}"] if job.callback_result else [])]


def _print_reply(reply: Mapping[str, Any]) -> None:
    import json

    if reply.get("data") is not None:
        console.result(json.dumps(reply["data"], ensure_ascii=False, indent=2))
    else:
        console.result(str(reply["response"]).rstrip("\n"))
    spent = Usage(**cast("dict[str, Any]", reply["usage"]))
    console.note(f"{usage(spent)} · {seconds(reply['duration_ms'])}")
    console.note(f'go on: claude-comms continue-conversation {reply["thread_id"]} "..."')


def _print_list(found: Sequence[Job]) -> None:
    """A table of what there is room for: a narrow terminal does not show when they were asked."""
    ids = short_ids([job.job_id for job in found])
    narrow = console.is_terminal(sys.stdout) and console.width() < _ROOM_FOR_ALL
    columns = [console.Column("ID"), console.Column("FROM → TO", flexible=True), console.Column("STATE")]
    columns += [] if narrow else [console.Column("ASKED")]
    columns += [console.Column("PROMPT", flexible=True)]
    rows: list[list[str]] = []
    for short, job in zip(ids, found, strict=True):
        row = [short, f"{job.source} → {job.target}", str(job.state)]
        row += [] if narrow else [local_time(job.created_at)]
        rows.append([*row, job.prompt])
    console.table(columns, rows)
