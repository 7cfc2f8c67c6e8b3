"""What each Claude Code binary said of its version, so that it is asked once and not for each question."""

from __future__ import annotations

import functools
import json
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.background.backends.claude_runtime.binary import MINIMUM_VERSION, dotted, read_version
from claude_comms.errors import BackendUnavailableError, ConfigError
from claude_comms.files import private_dir, write_private
from claude_comms.jsonable import as_mapping
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Versions", "known_versions"]

_PROBLEM_HOLDS_S = 600.0
"""A version is a binary's own and stays. What went wrong may have been the machine's: it is looked at again."""

_MOST_KEPT = 16


@dataclass(frozen=True, slots=True)
class _Known:
    """What was learned of a file, and which state of the file that holds for."""

    state: list[int]
    version: list[int] | None = None
    problem: str = ""
    learned_at: float = 0.0
    """Seconds since the epoch."""

    def holds(self, state: list[int], now: float) -> bool:
        return self.state == state and (self.version is not None or 0 <= now - self.learned_at < _PROBLEM_HOLDS_S)


class Versions:
    """The versions of binaries, kept in this process and in `file`, where its directory's parent is there.

    A binary is known by its path, and again unknown once its size, time of change or inode is another.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def accepted(self, binary: Path, *, fresh: bool = False) -> tuple[int, int, int]:
        """The version of `binary`. BackendUnavailableError where it is too old, or cannot be told; for a thread, as
        it may run the binary, for 3 s at most. `fresh` runs it whatever is known, and corrects what was.
        """
        known = self._of(binary.absolute(), fresh=fresh)
        if known.version is None:
            raise BackendUnavailableError(known.problem, backend=CLAUDE_CODE)
        major, minor, patch = known.version
        if (major, minor, patch) < MINIMUM_VERSION:
            raise BackendUnavailableError(
                f"{binary} is Claude Code {dotted((major, minor, patch))}, and {dotted(MINIMUM_VERSION)} or later is"
                " needed. Update it: claude update",
                backend=CLAUDE_CODE,
            )
        return major, minor, patch

    def _of(self, binary: Path, *, fresh: bool) -> _Known:
        state = _state(binary)
        with self._lock:
            if not fresh and (known := self._held(binary, state)) is not None:
                return known
            known = _learn(binary, state, self._clock())
            self._keep(binary, known, anew=not fresh)
            return known

    def _held(self, binary: Path, state: list[int]) -> _Known | None:
        """What is known in this process, else in the file, which another process may have written since."""
        now = self._clock()
        known = self._known.get(str(binary))
        if known is None or not known.holds(state, now):
            known = self._load().get(str(binary))
        return known if known is not None and known.holds(state, now) else None

    def _load(self) -> dict[str, _Known]:
        self._known = {**self._known, **_read(self._file)}
        return self._known

    def _keep(self, binary: Path, known: _Known, *, anew: bool) -> None:
        """In this process, and for others where there is a home; without it they have to ask themselves. A file that
        is not there yet is made where `anew`: a mere look at the machine makes none.
        """
        others = {path: one for path, one in self._load().items() if path != str(binary)}
        self._known = dict([*others.items(), (str(binary), known)][-_MOST_KEPT:])
        if not (self._file.parent.parent.is_dir() if anew else self._file.is_file()):
            return
        with suppress(OSError, ConfigError):
            private_dir(self._file.parent)
            write_private(self._file, json.dumps({path: asdict(one) for path, one in self._known.items()}))


@functools.cache
def known_versions(home: Path) -> Versions:
    """One for each home: questions, backends and `doctor` share what is known."""
    return Versions(home / "claude-code" / "versions.json")


def _learn(binary: Path, state: list[int], now: float) -> _Known:
    try:
        return _Known(state, version=list(read_version(binary)))
    except BackendUnavailableError as error:
        return _Known(state, problem=str(error), learned_at=now)


def _state(binary: Path) -> list[int]:
    """What changes with the file's content."""
    try:
        found = binary.stat()
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _read(file: Path) -> dict[str, _Known]:
    """What the file holds, as far as it can be understood: it is only there to save time."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {path: known for path, entry in as_mapping(content).items() if (known := _known(entry)) is not None}


def _known(entry: Any) -> _Known | None:
    match entry:
        case {"state": [int(), int(), int()] as state, "version": [int(), int(), int()] as version}:
            return _Known(list(state), version=list(version))
        case {"state": [int(), int(), int()] as state, "problem": str(problem), "learned_at": float(learned_at)}:
            return _Known(list(state), problem=problem, learned_at=learned_at)
        case _:
            return None
