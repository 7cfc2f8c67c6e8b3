"""``export-conversation``: a conversation as a file, or on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._threads import reading
from claude_comms.conversations import extension
from claude_comms.files import write_private

__all__ = ["export"]

_STDOUT = Path("-")


def export(wanted: str, format_: str, output: Path | None, *, as_json: bool) -> None:
    """Write the conversation and print the file's path, or with ``-`` the conversation itself.

    A file that is there is replaced, whole or not at all: the store has every version that was ever exported.
    """
    if output == _STDOUT and as_json and format_ != "json":
        raise typer.BadParameter("with --json, stdout takes the json format only.", param_hint="--output")
    with reading() as comm:
        conversation = comm.get_conversation(wanted)
        text = comm.export_conversation(conversation.thread_id, format_)
    if output == _STDOUT:
        _print(text, as_json=as_json)
        return
    path = (output or Path(f"{conversation.thread_id}.{extension(format_)}")).absolute()
    _write(path, text)
    if as_json:
        console.document({"thread_id": conversation.thread_id, "format": format_, "path": str(path)})
    else:
        console.result(str(path))


def _print(text: str, *, as_json: bool) -> None:
    """The export as it is for a pipe; made printable for a terminal."""
    import json

    if as_json:
        console.document(json.loads(text))
    elif console.is_terminal(sys.stdout):
        console.result(text.rstrip("\n"))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.rstrip("\n").encode("utf-8", "backslashreplace") + b"\n")


def _write(path: Path, text: str) -> None:
    try:
        write_private(path, text)
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be written: {error.strerror or error}.", param_hint="--output"
        ) from error
