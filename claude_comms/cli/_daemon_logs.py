"""``daemon logs``: what the daemon wrote, filtered, and what it goes on writing. Reads its files, not the daemon."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, cast

from claude_comms.cli import _console as console
from claude_comms.cli._reader import while_read
from claude_comms.cli._wording import clock
from claude_comms.cli._wrapping import hanging
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Wanted", "follow_log", "read_lines", "show_log"]

_LOOKS_EVERY_S = 0.2
_LEVELS = ("debug", "info", "warning", "error", "critical")
_IDS = ("conversation", "turn", "instance", "job", "log_id")
_SHOWN_APART = frozenset({"time", "level", "message", "logger", "exception", "seq", *_IDS})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are shown: at least of this level, and of conversations whose id begins so."""

    level: str = "debug"
    conversation: str | None = None

    def holds(self, line: Mapping[str, Any]) -> bool:
        """Whether `line` is one of them."""
        level = str(line.get("level", "")).lower()
        known = level not in _LEVELS or _LEVELS.index(level) >= _LEVELS.index(self.level)
        return known and (
            self.conversation is None or str(line.get("conversation") or "").startswith(self.conversation)
        )


def show_log(level: str, conversation: str | None, limit: int, *, as_json: bool) -> None:
    """The last lines that fit, those of rotated files among them."""
    path = _path()
    last = deque(_fitting(_kept(path), Wanted(level, conversation)), maxlen=limit)
    if as_json:
        console.document(list(last))
        return
    for line in last:
        _print(line)
    if not last:
        console.note(f"Nothing in {path} fits." if path.exists() else f"The daemon has written no log yet: {path}")


def follow_log(level: str, conversation: str | None, limit: int, *, as_json: bool) -> None:
    """The same, then each line as it is written, until Ctrl-C; one JSON document a line."""
    path, wanted = _path(), Wanted(level, conversation)
    with while_read(), closing(_Tail(path)) as tail:
        begun = chain(_kept(path, without_newest=True), tail.lines())
        for line in deque(_fitting(begun, wanted), maxlen=limit):
            _tell(line, as_json=as_json)
        while True:
            for line in _fitting(tail.lines(), wanted):
                _tell(line, as_json=as_json)
            time.sleep(_LOOKS_EVERY_S)


class _Tail:
    """A file that grows, and is another one from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call, as far as its lines are whole."""
        yield from self._more()
        if self._moved():
            yield from self._more()  # what came between the look and the rename
            self.close()
            with suppress(FileNotFoundError):
                self._file, self._rest = self._path.open("rb"), b""
            yield from self._more()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _more(self) -> Iterator[dict[str, Any]]:
        if self._file is None:
            return
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        yield from read_lines(whole)

    def _moved(self) -> bool:
        if self._file is None:
            return True
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        import os

        return now.st_ino != os.fstat(self._file.fileno()).st_ino


def read_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Each line's JSON; what is none, a line that a crash tore, say, is shown as it is."""
    for line in lines:
        if not line.strip():
            continue
        try:
            found: object = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            yield cast("dict[str, Any]", found)
        else:
            yield {"time": "", "level": "INFO", "message": line.decode("utf-8", "replace")}


def _path() -> Path:
    from claude_comms.daemon import Places

    return Places(Settings.load().home).log


def _kept(path: Path, *, without_newest: bool = False) -> Iterator[dict[str, Any]]:
    """All lines that are kept, the oldest first. Rotated files have a number at their end, the oldest the highest."""
    rotated = [file for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdigit()]
    files = sorted(rotated, key=lambda file: -int(file.suffix[1:]))
    for file in [*files, *([] if without_newest else [path])]:
        with suppress(FileNotFoundError), file.open("rb") as lines:
            yield from read_lines(lines)


def _fitting(lines: Iterable[dict[str, Any]], wanted: Wanted) -> Iterator[dict[str, Any]]:
    return (line for line in lines if wanted.holds(line))


def _tell(line: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.document(line)
    else:
        _print(line)
    sys.stdout.flush()


def _print(line: Mapping[str, Any]) -> None:
    ids = [str(line[name]) for name in _IDS if line.get(name)]
    more = [f"{name}={value}" for name, value in line.items() if name not in _SHOWN_APART and value not in ids]
    begins = [_time(str(line.get("time", ""))), f"{line.get('level', '')!s:7}"]
    told = console.one_line("  ".join(part for part in (str(line.get("message", "")), *more, *ids) if part))
    console.result(hanging(console.one_line("  ".join(filter(None, begins))) + " ", told))
    if line.get("exception"):
        console.result(str(line["exception"]).rstrip("\n"))


def _time(text: str) -> str:
    try:
        return clock(datetime.fromisoformat(text))
    except ValueError:
        return text
