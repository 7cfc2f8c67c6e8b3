"""The processes of a home, sorted by what they are: whom the soak kills, and who should be gone afterwards."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["ORPHANS_WITHIN_S", "Household", "household", "kill", "left_of", "lives"]

ORPHANS_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Household:
    """The living processes of one home, clients aside."""

    everybody: frozenset[psutil.Process]
    guardians: tuple[psutil.Process, ...]
    daemons: tuple[psutil.Process, ...]
    """The newest last. More than one only while one is being replaced."""
    launchers: tuple[psutil.Process, ...]
    claudes: tuple[psutil.Process, ...]


_RUN = {"claude_comms", "daemon", "run"}
"""Words of a daemon's command line."""


def household(home: Path, clients: Iterable[int]) -> Household:
    """Whoever has the home in their environment or command line, save the clients and this process."""
    but = {*clients, os.getpid()}
    lines: dict[psutil.Process, list[str]] = {}
    for process in psutil.process_iter():
        if process.pid in but:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            line = process.cmdline()
            if f"{home}" in " ".join(line) or any(f"{home}" in value for value in process.environ().values()):
                lines[process] = line
    return Household(
        everybody=frozenset(lines),
        guardians=_those(lines, "_guardian.py"),
        daemons=_those({process: line for process, line in lines.items() if {*line} >= _RUN}, "run", ("_guardian.py",)),
        launchers=_those(lines, "_launcher.py"),
        claudes=_those(lines, "--input-format", but=("_launcher.py",)),
    )


def _those(lines: dict[psutil.Process, list[str]], word: str, but: tuple[str, ...] = ()) -> tuple[psutil.Process, ...]:
    found = [
        process
        for process, line in lines.items()
        if any(part.endswith(word) for part in line) and not any(part.endswith(no) for part in line for no in but)
    ]
    return tuple(sorted(found, key=lambda process: process.create_time()))


def lives(process: psutil.Process) -> bool:
    """Whether it runs still. A zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def left_of(processes: Iterable[psutil.Process], within_s: float = ORPHANS_WITHIN_S) -> list[psutil.Process]:
    """Those that live still after so long, as soon as there are none."""
    give_up = time.monotonic() + within_s
    while (left := [process for process in processes if lives(process)]) and time.monotonic() < give_up:
        time.sleep(_LOOK_EVERY_S)
    return left
