"""The commands that ask: ``query-module`` and ``continue-conversation``."""

# No postponed annotations here: Typer reads them.
from typing import Annotated

import typer

from claude_comms.cli import _options as options
from claude_comms.cli._complete import complete_conversation, complete_module

__all__ = ["continue_conversation", "query_module"]


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
    backend: options.Backend = None,
    model: options.Model = None,
    data: options.Data = None,
    schema: options.Schema = None,
    template: options.Template = "query",
    param: options.Parameters = None,
    deadline: options.Deadline = None,
    max_cost: options.MaxCost = None,
    background: Annotated[
        bool, typer.Option("--background", metavar="", help="Ask as a job of the daemon (not yet).")
    ] = False,
    show_prompt: options.ShowPrompt = False,
    no_daemon: options.NoDaemon = False,
    as_json: options.AsJson = False,
) -> None:
    """Ask a module; the answer streams to stdout."""
    from claude_comms.cli._asking import Asking, ask_module

    if background:
        from claude_comms.errors import DaemonError

        raise DaemonError("background questions need the daemon, and there is none yet. Ask without --background.")
    asking = Asking.of(
        prompt,
        data=data,
        schema=schema,
        template=template,
        param=param,
        backend=backend,
        model=model,
        deadline_s=deadline,
        max_cost_usd=max_cost,
        no_daemon=no_daemon,
        show_prompt=show_prompt,
        as_json=as_json,
    )
    ask_module(asking, target, source, thread)


def continue_conversation(
    first: options.FirstId = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The next question; - reads it from stdin.")
    ] = None,
    *,
    id_: options.ConversationId = None,
    backend: options.Backend = None,
    model: options.Model = None,
    data: options.Data = None,
    schema: options.Schema = None,
    template: options.Template = "query",
    param: options.Parameters = None,
    deadline: options.Deadline = None,
    max_cost: options.MaxCost = None,
    show_prompt: options.ShowPrompt = False,
    no_daemon: options.NoDaemon = False,
    as_json: options.AsJson = False,
) -> None:
    """Ask the next question in a stored conversation."""
    from claude_comms.cli._asking import Asking, ask_in_conversation
    from claude_comms.cli._sources import pick_id_and_prompt

    wanted, question = pick_id_and_prompt(first, prompt, id_)
    asking = Asking.of(
        question,
        data=data,
        schema=schema,
        template=template,
        param=param,
        backend=backend,
        model=model,
        deadline_s=deadline,
        max_cost_usd=max_cost,
        no_daemon=no_daemon,
        show_prompt=show_prompt,
        as_json=as_json,
    )
    ask_in_conversation(asking, wanted)
