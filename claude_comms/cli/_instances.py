"""The commands around instances: start, list, ask, follow, steer, take over."""

# No postponed annotations here: Typer reads them.
from typing import Annotated

import typer

from claude_comms.cli import _options as options
from claude_comms.cli._question import QuestionOptions, with_question_options

__all__ = [
    "attach_instance",
    "interrupt_instance",
    "list_instances",
    "listen_module",
    "monitor_instance",
    "pause_instance",
    "query_instance",
    "resume_instance",
    "start_instance",
    "stop_instance",
]


def start_instance(
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="N", help="What to call it. SOURCE_TARGET alone names the pair, too."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="S",
            help="The module that will ask: by default the one whose path holds this directory, else anonymous.",
            autocompletion=options.complete_module,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", metavar="T", help="The module to be asked.", autocompletion=options.complete_module),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="B",
            help="auto, offline, api, claude-code, or an installed one; the setting when left out.",
            autocompletion=options.complete_backend,
        ),
    ] = None,
    model: options.Model = None,
    grants: Annotated[
        list[str] | None,
        typer.Option("--grant", metavar="G", help="Only this of the module's grants, or none; may be repeated."),
    ] = None,
    max_turns: Annotated[
        int | None, typer.Option("--max-turns", metavar="N", min=1, help="Turns after which it stops.")
    ] = None,
    max_idle: Annotated[
        float | None,
        typer.Option(
            "--max-idle", metavar="S", callback=options.above_zero, help="Idle seconds before it gives up its process."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline", metavar="S", callback=options.above_zero, help="Seconds for each question that says none."
        ),
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option("--memory-mb", metavar="MIB", min=1, help="Most memory of its processes; beyond, they restart."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Most tokens of all its turns.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost", metavar="USD", callback=options.above_zero, help="Most that all its turns may cost."
        ),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option(
            "--env", metavar="NAME=VALUE", help="A variable for its process; NAME alone passes yours on. Repeatable."
        ),
    ] = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Start an instance, warm and ready, in the daemon."""
    from claude_comms.cli._starting import Wanted, start
    from claude_comms.types import InstanceLimits

    limits = InstanceLimits(max_turns, max_idle, deadline, memory_mb, max_tokens, max_cost)
    wanted = Wanted.of(name, source, target, backend, model, grants, limits, environment)
    start(wanted, no_daemon=no_daemon, as_json=as_json)


def list_instances(
    watch: Annotated[bool, typer.Option("--watch", metavar="", help="Show them again at each change.")] = False,
    check: Annotated[bool, typer.Option("--check", metavar="", help="Have each prove that it is alive.")] = False,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """List the living instances, the oldest first."""
    from claude_comms.cli._roster import show_instances, watch_instances

    show = watch_instances if watch else show_instances
    show(check=check, no_daemon=no_daemon, as_json=as_json)


@with_question_options(without=("backend", "model", "show_prompt", "no_daemon"))
def query_instance(
    first: options.FirstInstance = None,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="The question; - reads it from stdin.")] = None,
    *,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
    question: QuestionOptions,
) -> None:
    """Ask an instance, in the conversation that it holds."""
    from claude_comms.cli._asking import Asking, ask_instance
    from claude_comms.cli._sources import pick_id_and_prompt

    wanted, text = pick_id_and_prompt(first, prompt, id_, see="list-instances")
    ask_instance(Asking.of(text, question), wanted, no_daemon=no_daemon)


def monitor_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    since: options.Since = None,
    focus: options.Focus = options.FocusLevel.EVERYTHING,
    priority: options.Priority = options.Least.LOW,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJsonLines = False,
) -> None:
    """Show what an instance did and does, until it stops."""
    from claude_comms.cli._following import monitor
    from claude_comms.cli._sources import pick_id

    monitor(
        pick_id(first, id_, see="list-instances"),
        since,
        focus.value,
        priority.value,
        no_daemon=no_daemon,
        as_json=as_json,
    )


def listen_module(
    first: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The module.", autocompletion=options.complete_module)
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            "--module", metavar="NAME", help="The same, as an option.", autocompletion=options.complete_module
        ),
    ] = None,
    deltas: Annotated[
        bool, typer.Option("--deltas", metavar="", help="The answers' text in pieces as well, as it comes.")
    ] = False,
    since: options.SinceNow = None,
    focus: options.Focus = options.FocusLevel.EVERYTHING,
    priority: options.Priority = options.Least.LOW,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJsonLines = False,
) -> None:
    """Follow what a module asks and is asked."""
    from claude_comms.cli._following import listen
    from claude_comms.cli._sources import pick_one

    name = pick_one(first, module, what="module", option="--module", see="list-modules")
    listen(name, since, focus.value, priority.value, deltas=deltas, no_daemon=no_daemon, as_json=as_json)


def pause_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Let its running turn finish; later questions wait."""
    _steer("pause", first, id_, no_daemon=no_daemon, as_json=as_json)


def resume_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Let a paused instance take questions again."""
    _steer("resume", first, id_, no_daemon=no_daemon, as_json=as_json)


def interrupt_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """Stop its running turn; what had come is stored as partial."""
    _steer("interrupt", first, id_, no_daemon=no_daemon, as_json=as_json)


def stop_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
    as_json: options.AsJson = False,
) -> None:
    """End an instance. Its conversation stays, and goes on elsewhere."""
    _steer("stop", first, id_, no_daemon=no_daemon, as_json=as_json)


def _steer(action: str, first: str | None, id_: str | None, *, no_daemon: bool, as_json: bool) -> None:
    from claude_comms.cli._roster import steer
    from claude_comms.cli._sources import pick_id

    steer(action, pick_id(first, id_, see="list-instances"), no_daemon=no_daemon, as_json=as_json)


def attach_instance(
    first: options.FirstInstance = None,
    id_: options.InstanceId = None,
    no_daemon: options.NoDaemonAtAll = False,
) -> None:
    """Take over an instance in this terminal, and give it back at the end.

    A claude-code instance is paused, and its session goes on in an interactive Claude Code; any other is a chat.
    """
    from claude_comms.cli._attaching import attach
    from claude_comms.cli._sources import pick_id

    attach(pick_id(first, id_, see="list-instances"), no_daemon=no_daemon)
