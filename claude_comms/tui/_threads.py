"""What several screens do with a conversation: ask in it, write it to a file."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from claude_comms.jobs import JobRequest
from claude_comms.tui._view import write_new
from claude_comms.tui.dialogs import AskDialog, ExportDialog
from claude_comms.types import ANONYMOUS, Question

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.jobs import Job
    from claude_comms.tui._view import View
    from claude_comms.tui.dialogs import Asked

__all__ = ["ask_anew", "ask_in", "export_thread"]


def ask_in(
    view: View[Any],
    source: str,
    target: str,
    *,
    thread_id: str | None,
    heading: str,
    instance_id: str | None = None,
) -> None:
    """Ask for a question of a given pair, and have it asked."""

    def asked(typed: Asked | None) -> None:
        if typed is not None:
            question = Question(source, target, typed.prompt, thread_id=thread_id, instance_id=instance_id)
            _start(view, question)

    dialog = AskDialog(f"{heading} · {source} → {target}", source=source, target=target, fixed=True)
    view.monitor.push_screen(dialog, asked)


def ask_anew(view: View[Any], *, source: str = "", target: str = "") -> None:
    """Ask for a question and its pair, and have it asked in a conversation of its own."""

    def asked(typed: Asked | None) -> None:
        if typed is not None:
            _start(view, Question(typed.source or ANONYMOUS, typed.target, typed.prompt))

    view.monitor.push_screen(AskDialog("A new question", source=source, target=target), asked)


def _start(view: View[Any], question: Question) -> None:
    """As a job: it is asked at once, and goes on when the monitor is left or the daemon restarted."""

    def said(_: Job) -> str:
        return f"asked {question.target}"

    view.do(lambda: view.desk.engine.jobs.start(JobRequest(question)), said)


def export_thread(view: View[Any], thread_id: str | None) -> None:
    """Ask for a file's name, and write the conversation to it."""
    if thread_id is None:
        view.complain("there is no conversation to export yet")
        return

    def named(path: Path | None) -> None:
        if path is not None:
            view.run_worker(functools.partial(_write, view, thread_id, path), exit_on_error=True)

    view.monitor.push_screen(ExportDialog(thread_id), named)


async def _write(view: View[Any], thread_id: str, path: Path) -> None:
    from claude_comms.conversations import export_conversation
    from claude_comms.errors import ClaudeCommsError

    try:
        conversation = await view.desk.engine.get_conversation(thread_id)
        text = export_conversation(conversation, "json" if path.suffix == ".json" else "markdown")
        await asyncio.to_thread(write_new, path, text)
    except ClaudeCommsError as error:
        view.complain(str(error))
    except OSError as error:
        view.complain(f"{path} was not written: {error.strerror or error}. Choose another place.")
    else:
        view.say(f"written: {path}")
