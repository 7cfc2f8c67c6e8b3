"""stdin, stdout and stderr as whoever started us left them: there, closed, or on a disk that is full."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Buffer

__all__ = ["OutputError", "forget_stdout", "prepare"]

_STDOUT = 1
_LAST_STANDARD = 2


class OutputError(Exception):
    """The result cannot be written to stdout."""


def prepare() -> None:
    """Make each stream usable, or plainly closed. For a process of our own, before anything is opened or written.

    stdout raises OutputError where it cannot be written; a closed stdin or stdout stays None; a closed stderr takes
    what is told and shows it to nobody.
    """
    _hold_descriptors()
    if sys.stdout is not None:  # it is None where it was closed
        sys.stdout = sys.__stdout__ = _telling(sys.stdout)  # shutil asks the second for the terminal's width
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it stays open


def forget_stdout() -> None:
    """Nobody takes stdout: let the interpreter's last flush go nowhere instead of into an error."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _hold_descriptors() -> None:
    """Keep 0, 1 and 2 taken, or the next file opened, such as the store, would get what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        pass
    os.close(descriptor)


def _telling(stream: TextIO) -> TextIO:
    """`stream`, the interpreter's stdout, with errors that say that it was stdout."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    encoding, errors, by_line, at_once = stream.encoding, stream.errors, stream.line_buffering, stream.write_through
    stream.detach()
    return io.TextIOWrapper(_Stdout(at_once=at_once), encoding, errors, line_buffering=by_line, write_through=at_once)


class _Stdout(io.BufferedWriter):
    """Descriptor 1.

    Not its raw file with a `write` of ours: Ctrl-C in there, after the system's, would have the same bytes written
    again.
    """

    def __init__(self, *, at_once: bool) -> None:
        """`at_once` as Python's own stdout does with ``-u``: nothing is held back."""
        super().__init__(io.FileIO(_STDOUT, "w", closefd=False))
        self._at_once = at_once

    def write(self, data: Buffer, /) -> int:
        with _as_output_error():
            count = super().write(data)
        if self._at_once:
            self.flush()
        return count

    def flush(self) -> None:
        with _as_output_error():
            super().flush()


@contextmanager
def _as_output_error() -> Generator[None]:
    try:
        yield
    except BrokenPipeError:  # its reader has had enough, which is no problem of theirs
        raise
    except OSError as error:
        raise OutputError(f"stdout cannot be written: {error.strerror or error}.") from error
