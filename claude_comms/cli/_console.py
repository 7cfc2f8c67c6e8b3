"""What reaches the terminal: results on stdout, people's lines on stderr, tables, JSON documents.

Text of models and modules goes through `printable` here, and nothing reads it as markup.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import typer

from claude_comms.cli._standard_streams import OutputError
from claude_comms.text import one_line, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Column",
    "document",
    "heading",
    "is_terminal",
    "note",
    "one_line",
    "piece",
    "prepare",
    "problem",
    "result",
    "shorten",
    "table",
    "width",
]

_ASCII_FORMS = {"→": "->", "…": "...", "·": "-", "✓": "ok", "✗": "X", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"'}
_GAP = "  "
_NARROWEST = 12
_ACTS_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def prepare() -> None:
    """Let output survive a locale that cannot write everything: our own signs get ASCII forms, the rest ``\\xe9``.

    OutputError where stdout is closed: told before anything is done, as a question would cost and show nothing.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed, so nothing could be shown. Run it without >&-, or with >/dev/null.")
    codecs.register_error("claude-comms", _ascii_form)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="claude-comms")


def _ascii_form(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    return _ASCII_FORMS.get(sign) or sign.encode("ascii", "backslashreplace").decode(), error.start + 1


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees `stream`; None is one that was closed."""
    return stream is not None and stream.isatty()


def width() -> int:
    """The terminal's width in columns; COLUMNS wins."""
    return shutil.get_terminal_size((80, 24)).columns


def result(text: str = "") -> None:
    """A line, or several, of what the command was asked for."""
    print(printable(text))  # noqa: T201 - this is where results are printed


def piece(text: str) -> None:
    """A part of a line of the result, shown at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def document(value: Any) -> None:
    """`value` as one JSON document on one line of stdout, in UTF-8 or, where that cannot be written, escaped."""
    plain_ascii = codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8"
    text = json.dumps(value, ensure_ascii=plain_ascii, default=str)
    print(_ACTS_IN_JSON.sub(_json_escape, text))  # noqa: T201


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def heading(text: str) -> None:
    """A heading within the result, set off where a terminal shows it."""
    print(_styled(printable(text), sys.stdout, bold=True))  # noqa: T201


def note(text: str) -> None:
    """A line for people, beside the result."""
    print(_styled(printable(text), sys.stderr, dim=True), file=sys.stderr)  # noqa: T201


def problem(text: str) -> None:
    """What went wrong, for people."""
    sign = _styled("Error:", sys.stderr, fg="red", bold=True)
    print(f"{sign} {printable(text)}", file=sys.stderr)  # noqa: T201


def _styled(text: str, stream: TextIO, **style: Any) -> str:
    """`text` with a style, where a terminal shows it and the user has not asked for none (NO_COLOR).

    Not `typer.echo`: that writes UTF-8 to streams that say they are ASCII.
    """
    return typer.style(text, **style) if is_terminal(stream) and not os.environ.get("NO_COLOR") else text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. A `flexible` one is shortened where the terminal is too narrow for everything."""

    title: str
    flexible: bool = False
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Rows under titles, without lines drawn. Whole where stdout is no terminal, else at most its width."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [
        max([_cells(column.title), *(_cells(row[number]) for row in cells)]) for number, column in enumerate(columns)
    ]
    if is_terminal(sys.stdout):
        widths = _fitted(columns, widths, width())
    heading(_row(columns, [column.title for column in columns], widths))
    for row in cells:
        result(_row(columns, row, widths))


def _fitted(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """`widths` with the widest flexible column narrowed, again and again, until all fit or nothing more gives."""
    fitted = list(widths)
    flexible = [number for number, column in enumerate(columns) if column.flexible]
    while flexible and sum(fitted) + len(_GAP) * (len(fitted) - 1) > room:
        widest = max(flexible, key=lambda number: fitted[number])
        if fitted[widest] <= _NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


def _row(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts: list[str] = []
    for column, cell, size in zip(columns, cells, widths, strict=True):
        text = _cut(cell, size)
        space = " " * (size - _cells(text))
        parts.append(space + text if column.right else text + space)
    return _GAP.join(parts).rstrip()


def _cut(text: str, size: int) -> str:
    if _cells(text) <= size:
        return text
    while _cells(text) > size - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _cells(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
