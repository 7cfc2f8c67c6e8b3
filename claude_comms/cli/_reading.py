"""Files and stdin read with a limit, as text and as JSON. What is wrong with them is misuse of the option."""

from __future__ import annotations

import json
import math
import stat
import sys
from typing import IO, TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MOST_OF_A_SCHEMA", "MOST_OF_A_TEXT", "STDIN", "read_json", "read_stdin"]

STDIN = "-"
MOST_OF_A_TEXT = 16 * 1024 * 1024
"""Bytes of a prompt or of data. Far more than a model reads, and little enough to hold."""
MOST_OF_A_SCHEMA = 256 * 1024


def read_json(path: Path, option: str, most: int) -> Any:
    """The JSON value in the regular file `path`, or on stdin for ``-``, of at most `most` bytes.

    Stricter than `json.loads`: a key comes once, and every number is finite, or what is sent would not be what the
    file says.
    """
    text = read_stdin(option, most) if str(path) == STDIN else _file(path, option, most)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_not_a_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint=option) from error


def read_stdin(option: str, most: int) -> str:
    """All of stdin, at most `most` bytes."""
    if sys.stdin is None:  # it is None where it was closed
        raise typer.BadParameter("stdin is closed, so there is nothing to read from it.", param_hint=option)
    return _text(sys.stdin.buffer, "stdin", option, most)


def _file(path: Path, option: str, most: int) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise typer.BadParameter(
                f"{path} is not a regular file. To pass on what another command prints, pipe it in and give {STDIN}.",
                param_hint=option,
            )
        with path.open("rb") as file:
            return _text(file, str(path), option, most)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror or error}.", param_hint=option) from error


def _text(file: IO[bytes], origin: str, option: str, most: int) -> str:
    content = file.read(most + 1)
    if len(content) > most:
        raise typer.BadParameter(
            f"{origin} holds more than {most // 1024:,} KiB, the most that is read. Give only what matters.",
            param_hint=option,
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{origin} is not UTF-8 (byte {error.start}).", param_hint=option) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} is given twice in one object.")
        found[name] = value
    return found


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON. Use null or a string for it.")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number.")
    return number
