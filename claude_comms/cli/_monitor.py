"""``monitor``: what happens, in this terminal."""

# No postponed annotations here: Typer reads them.
import sys

import typer

from claude_comms.cli import _console as console

__all__ = ["monitor"]


def monitor() -> None:
    """Watch instances, conversations, events, jobs and usage in this terminal; ? shows the keys."""
    # Textual draws on stderr.
    if not all(console.is_terminal(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise typer.TyperException(
            "monitor needs a terminal. Elsewhere: claude-comms listen-module --module NAME, or list-instances --watch"
        )
    from claude_comms.cli._access import require_daemon
    from claude_comms.settings import Settings

    settings = Settings.load()
    require_daemon(settings, no_daemon=False)
    from claude_comms.tui import run_monitor

    code = run_monitor(settings)
    if code:
        raise typer.Exit(code)
