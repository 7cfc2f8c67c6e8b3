"""Where a command's inputs come from: the prompt, data, ids, and the module that asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from claude_comms.cli._reading import MOST_OF_A_SCHEMA, MOST_OF_A_TEXT, STDIN, read_json, read_stdin
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.descriptors import Registry
    from claude_comms.settings import Settings

__all__ = [
    "asking_module",
    "open_registry",
    "pick_id",
    "pick_id_and_prompt",
    "pick_one",
    "read_data",
    "read_parameters",
    "read_prompt",
    "read_schema",
]


def open_registry(settings: Settings | None = None) -> Registry:
    """The registry of the home that the settings name."""
    from claude_comms.descriptors import Registry
    from claude_comms.settings import Settings

    settings = settings or Settings.load()
    return Registry(settings.home, settings.descriptors)


def asking_module(given: str | None, registry: Registry) -> str:
    """`given`, else the module whose registered path holds the working directory, else anonymous."""
    if given is not None:
        return given
    try:
        here = registry.module_for_path(Path.cwd())
    except FileNotFoundError:  # the working directory is gone
        here = None
    return here.name if here is not None else ANONYMOUS


def pick_id(first: str | None, option: str | None, *, see: str = "list-conversations") -> str:
    """The id, given as the first argument or with ``--id``; `see` is the command that lists what has one."""
    return pick_one(first, option, what="id", option="--id", see=see)


def pick_one(first: str | None, other: str | None, *, what: str, option: str, see: str) -> str:
    """What may be given as the first argument or as an option."""
    if first is not None and other is not None and first != other:
        raise typer.BadParameter(f"two {what}s were given: {first} and {other}.", param_hint=option)
    wanted = other if other is not None else first
    if not wanted:
        raise typer.BadParameter(f"no {what} was given. See: claude-comms {see}", param_hint=what.upper())
    return wanted


def pick_id_and_prompt(
    first: str | None, second: str | None, option: str | None, *, see: str = "list-conversations"
) -> tuple[str, str]:
    """The id and the prompt of ``ID PROMPT``, or of ``--id ID PROMPT``."""
    if option is not None and second is None:
        first, second = option, first
    wanted = pick_id(first, option, see=see)
    if second is None:
        raise typer.BadParameter("no prompt was given; - reads it from stdin.", param_hint="PROMPT")
    return wanted, second


def read_prompt(given: str) -> str:
    """The prompt as given; ``-`` reads all of stdin, less the newline at its end."""
    text = read_stdin("PROMPT", MOST_OF_A_TEXT).removesuffix("\n") if given == STDIN else given
    if not text.strip():
        raise typer.BadParameter("the prompt is empty.", param_hint="PROMPT")
    return text


def read_data(path: Path | None) -> Any:
    """The JSON value to send along; None without a path."""
    return None if path is None else read_json(path, "--data", MOST_OF_A_TEXT)


def read_schema(path: Path | None) -> dict[str, Any] | None:
    """The JSON Schema in a file."""
    if path is None:
        return None
    schema = read_json(path, "--schema", MOST_OF_A_SCHEMA)
    if not isinstance(schema, dict):
        raise typer.BadParameter(f"{path} is not a JSON Schema: an object is needed.", param_hint="--schema")
    return cast("dict[str, Any]", schema)


def read_parameters(given: Sequence[str] | None, option: str = "--param") -> dict[str, str]:
    """``name=value`` texts as a mapping."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"{name} is given twice.", param_hint=option)
        found[name] = value
    return found
