"""The commands that read and keep conversations."""

# No postponed annotations here: Typer reads them.
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from claude_comms.cli import _options as options

__all__ = [
    "archive_conversation",
    "export_conversation",
    "list_conversations",
    "search_conversations",
    "show_conversation",
]


class _State(StrEnum):
    ACTIVE = "active"
    ARCHIVED = "archived"
    ALL = "all"


class _Format(StrEnum):
    JSON = "json"
    MARKDOWN = "markdown"


def list_conversations(
    source: options.FromFilter = None,
    target: options.ToFilter = None,
    state: Annotated[_State, typer.Option("--state", help="Which ones.")] = _State.ACTIVE,
    limit: options.Limit = 50,
    as_json: options.AsJson = False,
) -> None:
    """List stored conversations, the newest first."""
    from claude_comms.cli._threads import show_list

    show_list(source, target, state.value, limit, as_json=as_json)


def show_conversation(
    first: options.FirstId = None, id_: options.ConversationId = None, as_json: options.AsJson = False
) -> None:
    """Show a conversation with all its messages."""
    from claude_comms.cli._sources import pick_id
    from claude_comms.cli._threads import show_thread

    show_thread(pick_id(first, id_), as_json=as_json)


def search_conversations(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words to look for.")],
    source: options.FromFilter = None,
    target: options.ToFilter = None,
    limit: options.Limit = 20,
    as_json: options.AsJson = False,
) -> None:
    """Search all messages, the best match first."""
    from claude_comms.cli._threads import show_hits

    show_hits(text, source, target, limit, as_json=as_json)


def export_conversation(
    first: options.FirstId = None,
    id_: options.ConversationId = None,
    format_: Annotated[_Format, typer.Option("--format", help="How.")] = _Format.JSON,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where to; - is stdout, and <id>.<ext> here when left out."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a conversation to a file and print its path.

    A file of that name, such as an earlier export, is replaced.
    """
    from claude_comms.cli._exporting import export
    from claude_comms.cli._sources import pick_id

    export(pick_id(first, id_), format_.value, output, as_json=as_json)


def archive_conversation(
    first: options.FirstId = None,
    id_: options.ConversationId = None,
    restore: Annotated[bool, typer.Option("--restore", metavar="", help="Take it out of the archive.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Hide a conversation from lists; it stays searchable."""
    from claude_comms.cli._sources import pick_id
    from claude_comms.cli._threads import archive

    archive(pick_id(first, id_), restore=restore, as_json=as_json)
