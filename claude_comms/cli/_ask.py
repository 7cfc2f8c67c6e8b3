"""The commands that ask: ``query-module`` and ``continue-conversation``."""

# No postponed annotations here: Typer reads them.
from typing import Annotated

import typer

from claude_comms.cli import _options as options
from claude_comms.cli._complete import complete_conversation, complete_module
from claude_comms.cli._question import QuestionOptions, with_question_options

__all__ = ["continue_conversation", "query_module"]


@with_question_options()
def query_module(
    target: options.Target,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The question; - reads it from stdin.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="The module that asks: by default the one whose path holds this directory, else anonymous.",
            autocompletion=complete_module,
        ),
    ] = None,
    thread: Annotated[
        str | None,
        typer.Option(
            "--thread",
            metavar="ID",
            help="Go on in this conversation; 'last' is the pair's latest.",
            autocompletion=complete_conversation,
        ),
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", metavar="", help="Ask as a job of the daemon, and print the job's id.")
    ] = False,
    priority: Annotated[
        int | None,
        typer.Option("--priority", metavar="N", help="With --background: higher ones are asked first; else 0."),
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires",
            metavar="S",
            callback=options.above_zero,
            help="With --background: it fails if it has not begun within so many seconds.",
        ),
    ] = None,
    callback: Annotated[
        str | None,
        typer.Option(
            "--callback",
            metavar="WHAT",
            help="With --background: a command, or a URL on this machine, that is handed the job at its end.",
        ),
    ] = None,
    question: QuestionOptions,
) -> None:
    """Ask a module; the answer streams to stdout."""
    from claude_comms.cli._asking import Asking, ask_module
    from claude_comms.cli._background_question import JobOptions, ask_in_background

    job = JobOptions(priority, expires, callback)
    if background:
        ask_in_background(Asking.of(prompt, question), target, source, thread, job)
        return
    job.require_none()
    ask_module(Asking.of(prompt, question), target, source, thread)


@with_question_options()
def continue_conversation(
    first: options.FirstId = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The next question; - reads it from stdin.")
    ] = None,
    *,
    id_: options.ConversationId = None,
    question: QuestionOptions,
) -> None:
    """Ask the next question in a stored conversation."""
    from claude_comms.cli._asking import Asking, ask_in_conversation
    from claude_comms.cli._sources import pick_id_and_prompt

    wanted, text = pick_id_and_prompt(first, prompt, id_)
    ask_in_conversation(Asking.of(text, question), wanted)
