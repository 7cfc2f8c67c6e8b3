"""stdin, stdout and stderr as whoever started us left them: there, closed, or on a disk that is full."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None where it was closed
        sys.stdout = sys.__stdout__ = _telling(sys.stdout)  # shutil asks the second for the terminal's width
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - it stays open


def forget_stdout() -> None:
    """Nobody takes stdout: let the interpreter's last flush go nowhere instead of into an error."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _hold_descriptors() -> None:
    """Keep 0, 1 and 2 taken, or the next file opened, such as the store, would get what is printed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        pass
    os.close(descriptor)


def _telling(stream: io.TextIOBase | object) -> io.TextIOWrapper:
    """`stream`, the interpreter's stdout, with errors that say that it was stdout."""
    assert isinstance(stream, io.TextIOWrapper)  # noqa: S101 - the interpreter's own
    settings = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
    write_through = stream.write_through
    stream.flush()
    stream.detach()
    return io.TextIOWrapper(io.BufferedWriter(_Stdout()), **settings, write_through=write_through)


class _Stdout(io.FileIO):
    """Descriptor 1."""

    def __init__(self) -> None:
        super().__init__(_STDOUT, "w", closefd=False)

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # its reader has had enough, which is no problem of theirs
            raise
        except OSError as error:
            raise OutputError(f"stdout cannot be written: {error.strerror or error}.") from error
