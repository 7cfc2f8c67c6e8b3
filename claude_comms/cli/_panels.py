"""Help in plain text with the commands in panels.

Typer's own panels are drawn by Rich and take 60 ms to import, Markdown and tracebacks included; help is what a
newcomer runs first, so it is written without them.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["Panels"]


class Panels(TyperGroup):
    """A group whose help lists its commands by their panels, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # Typer does not make their types public
        """One section a panel; each command with all of its first line."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if isinstance(command, (TyperCommand, TyperGroup)) and not command.hidden:
                panel = command.rich_help_panel
                title = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(title, []).append((name, (command.help or "").partition("\n")[0]))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)
