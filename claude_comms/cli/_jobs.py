"""The commands around jobs: questions that are asked in the background."""

# No postponed annotations here: Typer reads them.
from enum import StrEnum
from typing import Annotated

import typer

from claude_comms.cli import _options as options

__all__ = ["cancel_job", "list_jobs", "show_job", "wait_job"]


class _State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


def list_jobs(
    state: Annotated[_State | None, typer.Option("--state", help="Only those in this state.")] = None,
    limit: options.Limit = 50,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """List background questions, the newest first."""
    from claude_comms.cli._waiting import show_jobs

    show_jobs(state.value if state is not None else None, limit, no_daemon=no_daemon, as_json=as_json)


def show_job(
    first: options.FirstJob = None,
    id_: options.JobId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Show a background question, and its answer once it is there."""
    from claude_comms.cli._sources import pick_id
    from claude_comms.cli._waiting import show_one

    show_one(pick_id(first, id_, see="list-jobs"), no_daemon=no_daemon, as_json=as_json)


def wait_job(
    first: options.FirstJob = None,
    id_: options.JobId = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", callback=options.above_zero, help="Seconds to wait at most."),
    ] = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Wait for a background question's answer. Ctrl-C leaves it going on."""
    from claude_comms.cli._sources import pick_id
    from claude_comms.cli._waiting import wait

    wait(pick_id(first, id_, see="list-jobs"), timeout, no_daemon=no_daemon, as_json=as_json)


def cancel_job(
    first: options.FirstJob = None,
    id_: options.JobId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Call a background question off; a running one is interrupted."""
    from claude_comms.cli._sources import pick_id
    from claude_comms.cli._waiting import cancel

    cancel(pick_id(first, id_, see="list-jobs"), no_daemon=no_daemon, as_json=as_json)
