"""Asking before something is changed: a terminal only, and anything but yes ends the command."""

from __future__ import annotations

import sys

import typer

from claude_comms.cli import _console as console

__all__ = ["agreed"]


def agreed(question: str, *, yes: bool, otherwise: str = "") -> None:
    """Go on once the user agrees, or has said yes beforehand. `otherwise` names another way out, for the refusal."""
    if yes:
        return
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)):
        raise typer.BadParameter(f"nobody can be asked here; give it to agree{otherwise}.", param_hint="--yes")
    if not typer.confirm(question, default=False, err=True):
        console.note("Nothing was changed.")
        raise typer.Exit(1)
