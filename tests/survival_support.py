"""What the tests of the daemon's survival share: processes that speak in lines, what is left of them, full homes."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.daemon import find, short_request
from claude_comms.engine import LocalEngine
from claude_comms.settings import Settings
from claude_comms.storage import utc_text
from claude_comms.types import new_id

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from claude_comms.daemon import DaemonInfo

ORPHANS_WITHIN_S = 10.0
_WAIT_S = 60.0


@dataclass
class Lines:
    """The JSON documents that a child prints, one a line, read as they come."""

    child: subprocess.Popen[bytes]
    came: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, wanted: Callable[[dict[str, Any]], bool], *, within_s: float = _WAIT_S) -> dict[str, Any]:
        """The first that is `wanted`, once it is there."""

        def found() -> dict[str, Any] | None:
            return next((line for line in self.came if wanted(line)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._ended, within_s)
            line = found()
        assert line is not None, (self.came[-5:], self.child.poll())
        return line

    def end(self, *, within_s: float = _WAIT_S) -> int:
        """Wait for the child's end, and for the last of what it printed; its exit code."""
        code = self.child.wait(within_s)
        self._reader.join(within_s)
        return code

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            with self._changed:
                self.came.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Process:
    """One process, told apart from a later one with the same number."""

    pid: int
    began: int

    @property
    def lives(self) -> bool:
        """Whether it runs still; a zombie does not."""
        return _stat(self.pid) == (self.began, True)

    @property
    def command(self) -> str:
        """What it runs, for people."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        return ""


def processes_of(home: Path) -> set[Process]:
    """All living processes that have this home in their environment or command line, save this one."""
    mark = os.fsencode(home)
    found: set[Process] = set()
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        with suppress(OSError):
            told = (directory / "environ").read_bytes() + (directory / "cmdline").read_bytes()
            if mark in told and pid != os.getpid() and (stat := _stat(pid)) is not None and stat[1]:
                found.add(Process(pid, stat[0]))
    return found


def left_of(processes: set[Process], *, within_s: float = ORPHANS_WITHIN_S) -> list[str]:
    """Those that live still after so long, as soon as there are none."""
    give_up = time.monotonic() + within_s
    while (left := [process for process in processes if process.lives]) and time.monotonic() < give_up:
        select.select([], [], [], 0.02)
    return [f"{process.pid} {process.command}" for process in left]


def _stat(pid: int) -> tuple[int, bool] | None:
    """When it began, in the kernel's ticks, and whether it lives."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[19]), fields[0] not in (b"Z", b"X")


def soon(condition: Callable[[], Any], *, within_s: float = 20.0) -> Any:
    """What `condition` gives as soon as that is anything; else the nothing that it gives in the end."""
    give_up = time.monotonic() + within_s
    while not (met := condition()) and time.monotonic() < give_up:
        select.select([], [], [], 0.02)
    return met


def answering(settings: Settings, *, but: int = 0) -> DaemonInfo | None:
    """The daemon of this home, if one serves and has another pid than `but`."""
    info = find(settings)
    if info is None or info.pid == but:
        return None
    short_request(info.socket, "GET", "/v1/conversations?limit=1")
    return info


def events_of(settings: Settings, **wanted: str) -> list[dict[str, Any]]:
    """What the daemon's log keeps of what is wanted, oldest first."""
    info = find(settings)
    assert info is not None
    found: list[dict[str, Any]] = []
    while page := _page(info, len(found) and found[-1]["seq"], wanted):
        found += page
    return found


def _page(info: DaemonInfo, after: int, wanted: dict[str, str]) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in {**wanted, "after": after, "limit": 1000}.items())
    return short_request(info.socket, "GET", f"/v1/events?{query}")


def stored_conversations(home: Path, count: int) -> None:
    """Fill the store of a home with conversations of one complete turn each."""

    async def made() -> None:
        engine = LocalEngine(Settings.load({"home": home, "backend": "offline"}))
        await engine.open()
        await engine.close()

    anyio.run(made)
    at = utc_text(datetime.now(UTC))
    threads = [new_id("c") for _ in range(count)]
    with closing(sqlite3.connect(home / "claude-comms.db")) as store, store:
        store.executemany(
            "INSERT INTO conversations VALUES (?, 'marker', 'arangodb', 'api', 'm', 'active', 'kept', ?, ?, 2)",
            [(thread, at, at) for thread in threads],
        )
        store.executemany(
            "INSERT INTO messages (message_id, thread_id, position, role, speaker, text, state, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'complete', ?)",
            [
                (new_id("m"), thread, position, role, speaker, f"{role} about page blocks in {thread}", at)
                for thread in threads
                for position, (role, speaker) in enumerate((("question", "marker"), ("answer", "arangodb")))
            ],
        )
