"""All commands, in the order and the panels in which help shows them."""

# No postponed annotations here: Typer reads them.
from collections.abc import Sequence
from typing import Annotated

import typer

from claude_comms.cli import _ask, _conversations, _instances, _jobs, _machine, _modules
from claude_comms.cli import _console as console
from claude_comms.cli._daemon import daemon
from claude_comms.cli._monitor import monitor
from claude_comms.cli._panels import Panels
from claude_comms.cli._plugin import install, mcp
from claude_comms.cli._usage import usage

__all__ = ["app", "app_for"]

_ASK, _MODULES, _CONVERSATIONS, _MACHINE = "Ask", "Modules", "Conversations", "This machine"
_INSTANCES, _JOBS = "Instances", "Background questions"


def _empty() -> typer.Typer:
    return typer.Typer(
        name="claude-comms",
        help="Software modules ask each other questions, and a background Claude that knows the module answers.",
        epilog="Begin with: claude-comms demo",
        cls=Panels,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = _empty()


def app_for(argv: Sequence[str]) -> typer.Typer:
    """The app, or as much of it as `argv` needs: Typer takes a millisecond for each command that it knows."""
    name = argv[0] if argv else ""
    commands = [info for info in app.registered_commands if info.name == name]
    groups = [info for info in app.registered_groups if info.name == name]
    if not commands and not groups:
        return app
    part = _empty()
    part.registered_callback = app.registered_callback
    part.registered_commands, part.registered_groups = commands, groups
    return part


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        console.result(f"claude-comms {_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.result(context.get_help())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("claude-module-comms")
    except PackageNotFoundError:
        return "from a checkout that is not installed"


app.command("query-module", rich_help_panel=_ASK)(_ask.query_module)
app.command("continue-conversation", rich_help_panel=_ASK)(_ask.continue_conversation)

app.command("register-module", rich_help_panel=_MODULES)(_modules.register_module)
app.command("list-modules", rich_help_panel=_MODULES)(_modules.list_modules)
app.command("show-module", rich_help_panel=_MODULES)(_modules.show_module)
app.command("find-module", rich_help_panel=_MODULES)(_modules.find_module)
app.command("unregister-module", rich_help_panel=_MODULES)(_modules.unregister_module)

app.command("list-conversations", rich_help_panel=_CONVERSATIONS)(_conversations.list_conversations)
app.command("show-conversation", rich_help_panel=_CONVERSATIONS)(_conversations.show_conversation)
app.command("search-conversations", rich_help_panel=_CONVERSATIONS)(_conversations.search_conversations)
app.command("export-conversation", rich_help_panel=_CONVERSATIONS)(_conversations.export_conversation)
app.command("archive-conversation", rich_help_panel=_CONVERSATIONS)(_conversations.archive_conversation)

app.command("start-instance", rich_help_panel=_INSTANCES)(_instances.start_instance)
app.command("list-instances", rich_help_panel=_INSTANCES)(_instances.list_instances)
app.command("query-instance", rich_help_panel=_INSTANCES)(_instances.query_instance)
app.command("monitor-instance", rich_help_panel=_INSTANCES)(_instances.monitor_instance)
app.command("listen-module", rich_help_panel=_INSTANCES)(_instances.listen_module)
app.command("pause-instance", rich_help_panel=_INSTANCES)(_instances.pause_instance)
app.command("resume-instance", rich_help_panel=_INSTANCES)(_instances.resume_instance)
app.command("interrupt-instance", rich_help_panel=_INSTANCES)(_instances.interrupt_instance)
app.command("attach-instance", rich_help_panel=_INSTANCES)(_instances.attach_instance)
app.command("stop-instance", rich_help_panel=_INSTANCES)(_instances.stop_instance)

app.command("list-jobs", rich_help_panel=_JOBS)(_jobs.list_jobs)
app.command("show-job", rich_help_panel=_JOBS)(_jobs.show_job)
app.command("wait-job", rich_help_panel=_JOBS)(_jobs.wait_job)
app.command("cancel-job", rich_help_panel=_JOBS)(_jobs.cancel_job)

app.add_typer(daemon, name="daemon", rich_help_panel=_MACHINE)
app.command("mcp", rich_help_panel=_MACHINE)(mcp)
app.command("install", rich_help_panel=_MACHINE)(install)
app.command("usage", rich_help_panel=_MACHINE)(usage)
app.command("monitor", rich_help_panel=_MACHINE)(monitor)
app.command("demo", rich_help_panel=_MACHINE)(_machine.demo)
app.command("doctor", rich_help_panel=_MACHINE)(_machine.doctor)
app.add_typer(_machine.config, name="config", rich_help_panel=_MACHINE)
