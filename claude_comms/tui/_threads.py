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

    async def send(typed: Asked) -> str:
        return await _start(view, Question(source, target, typed.prompt, thread_id=thread_id, instance_id=instance_id))

    dialog = AskDialog(f"{heading} · {source} → {target}", send, source=source, target=target, fixed=True)
    view.monitor.push_screen(dialog)


def ask_anew(view: View[Any], *, source: str = "", target: str = "") -> None:
    """Ask for a question and its pair, and have it asked in a conversation of its own."""

    async def send(typed: Asked) -> str:
        return await _start(view, Question(typed.source or ANONYMOUS, typed.target, typed.prompt))

    dialog = AskDialog("A new question", send, source=source, target=target)
    view.monitor.push_screen(dialog)
    view.worked("modules", _offer_modules, view, dialog)


async def _offer_modules(view: View[Any], dialog: AskDialog) -> None:
    from claude_comms.errors import ClaudeCommsError

    try:
        found = await view.desk.engine.find_modules()
    except ClaudeCommsError:
        return  # a name can be typed all the same
    dialog.offer([match.module.name for match in found])


async def _start(view: View[Any], question: Question) -> str:
    """As a job: it is asked at once, and goes on when the monitor is left or the daemon restarted.

    Nothing where that is on its way, else what is wrong.
    """
    from claude_comms.errors import ClaudeCommsError

    try:
        await view.desk.engine.jobs.start(JobRequest(question))
    except ClaudeCommsError as error:
        return str(error)
    view.say(f"asked {question.target}")
    return ""


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
