"""``daemon``: start, stop, look at and install the process that keeps instances and jobs."""

# No postponed annotations here: Typer reads them.
from enum import StrEnum
from typing import Annotated

import typer

from claude_comms.cli import _options as options
from claude_comms.cli._panels import Panels

__all__ = ["daemon"]

daemon = typer.Typer(help="The background process that keeps instances and jobs.", cls=Panels, rich_markup_mode=None)


class _Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Listen on this loopback address, too; port 0 picks one."),
]
Drain = Annotated[
    float | None,
    typer.Option("--drain", metavar="S", min=0, help="Seconds that running turns may still take; else the setting."),
]
Systemd = Annotated[bool, typer.Option("--systemd", metavar="", help="A unit of systemd's, for this user.")]
Launchd = Annotated[bool, typer.Option("--launchd", metavar="", help="An agent of launchd's, for this user.")]
Print = Annotated[bool, typer.Option("--print", metavar="", help="Print the file, and write nothing.")]


@daemon.command("start")
def start(listen: Listen = None, as_json: options.AsJson = False) -> None:
    """Start it, unless it runs; with --listen a running one listens there, too."""
    from claude_comms.cli._daemon_life import start

    start(listen, as_json=as_json)


@daemon.command("stop")
def stop(drain: Drain = None, as_json: options.AsJson = False) -> None:
    """Stop it: running turns finish or are interrupted, and all is stored."""
    from claude_comms.cli._daemon_life import stop

    stop(drain, as_json=as_json)


@daemon.command("restart")
def restart(drain: Drain = None, as_json: options.AsJson = False) -> None:
    """Stop it and start it again, with the settings as they are now."""
    from claude_comms.cli._daemon_life import restart

    restart(drain, as_json=as_json)


@daemon.command("status")
def status(as_json: options.AsJson = False) -> None:
    """Tell whether it runs, and where; exit 1 where it does not."""
    from claude_comms.cli._daemon_life import show_status

    show_status(as_json=as_json)


@daemon.command("logs")
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on showing what comes.")] = False,
    level: Annotated[_Level, typer.Option("--level", help="At least this important.")] = _Level.INFO,
    conversation: Annotated[
        str | None,
        typer.Option("--conversation", metavar="ID", help="Only of this conversation, or of ids that begin so."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, max=1_000_000, help="At most so many of the last lines.")
    ] = 200,
    as_json: options.AsJson = False,
) -> None:
    """Show its log; it may be read whether it runs or not."""
    from claude_comms.cli._daemon_logs import follow_log, show_log

    show = follow_log if follow else show_log
    show(level.value, conversation, limit, as_json=as_json)


@daemon.command("run")
def run(listen: Listen = None, as_json: options.AsJson = False) -> None:
    """Be the daemon, in this terminal or under a supervisor, until told to end."""
    from claude_comms.cli._daemon_life import run

    run(listen, as_json=as_json)


@daemon.command("install")
def install(
    systemd: Systemd = False,
    launchd: Launchd = False,
    print_: Print = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Have it started with your session. The file is shown before it is written."""
    from claude_comms.cli._daemon_units import install

    install(systemd=systemd, launchd=launchd, only_print=print_, yes=yes, as_json=as_json)


@daemon.command("uninstall")
def uninstall(
    systemd: Systemd = False, launchd: Launchd = False, yes: options.Yes = False, as_json: options.AsJson = False
) -> None:
    """Undo install."""
    from claude_comms.cli._daemon_units import uninstall

    uninstall(systemd=systemd, launchd=launchd, yes=yes, as_json=as_json)
