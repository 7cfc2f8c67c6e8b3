"""``query-module --background``: a question as a job of the daemon."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._access import background
from claude_comms.cli._asking import LAST, latest_thread
from claude_comms.cli._sources import asking_module, open_registry
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from claude_comms.cli._asking import Asking

__all__ = ["JobOptions", "ask_in_background", "read_callback"]

_URLS = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What may be said about a job beside its question."""

    priority: int | None
    expires_s: float | None
    callback: str | None

    def require_none(self) -> None:
        """Misuse where any is given: without a job they would say nothing."""
        given = [("--priority", self.priority), ("--expires", self.expires_s), ("--callback", self.callback)]
        for option, value in given:
            if value is not None:
                raise typer.BadParameter(
                    "it is for questions in the background. Give --background, too.", param_hint=option
                )


def ask_in_background(asking: Asking, target: str, source: str | None, thread: str | None, job: JobOptions) -> None:
    """Queue the question, and print the job's id."""
    if asking.options.show_prompt:
        raise typer.BadParameter(
            "it asks nothing, so there is no job. Give it without --background.", param_hint="--show-prompt"
        )
    callback = read_callback(job.callback)
    settings = Settings.load()
    asker = source if source is not None else asking_module(None, open_registry(settings))
    with background(no_daemon=asking.options.no_daemon) as engine:
        started = engine.start_job(
            **asking.message(target, latest_thread(settings, asker, target) if thread == LAST else thread),
            source=None if asker == ANONYMOUS else asker,
            priority=job.priority or 0,
            expires_in_s=job.expires_s,
            callback=callback,
            backend=asking.options.backend,
            model=asking.options.model,
        )
    if asking.options.as_json:
        console.document({"job_id": started.job_id, "state": str(started.state)})
        return
    console.result(started.job_id)
    console.note(f"{started.source} → {started.target} · {started.state}")
    console.note(f"wait for it: claude-comms wait-job {started.job_id}")


def read_callback(given: str | None) -> str | tuple[str, ...] | None:
    """A URL as it is; anything else is a command, split as a shell would, and run without one."""
    if given is None or given.startswith(_URLS):
        return given
    try:
        words = tuple(shlex.split(given))
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is no command: {error}.", param_hint="--callback") from error
    if not words:
        raise typer.BadParameter("it is empty. Give a command or a URL.", param_hint="--callback")
    return words
