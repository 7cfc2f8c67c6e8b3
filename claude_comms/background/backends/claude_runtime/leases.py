"""The right to use a session: two processes on one branch it silently, and one branch is lost.

A lease is held while a session is asked, started or stopped, and given up in between: a warm process that has nothing
to do stands in nobody's way. That is safe because a question names the answer that it follows: a process whose session
has moved on without it does not hold that answer as its last, and is not asked again.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Lease", "Leases"]

_STALE_S = 3600.0

_held_here: set[str] = set()
"""The files of the leases that this process holds."""


class Lease:
    """One session's lease. The lock is the kernel's: it is free when its holder is dead, however it died."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, mode=0o600, thread_local=False)

    def take(self) -> bool:
        """Whether it is ours now. At once; may be called again while it is."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
            os.utime(self._path)
        except Timeout:
            return False
        except FileNotFoundError:  # swept between its opening and its locking: what we hold has no name any more
            self._lock.release()
            return False
        _held_here.add(str(self._path))
        return True

    def release(self) -> None:
        """Give it up. May be called twice."""
        if self._lock.is_locked:
            _held_here.discard(str(self._path))
            self._lock.release()

    @property
    def held_here(self) -> bool:
        """Whether a session of this very process holds it."""
        return str(self._path) in _held_here


class Leases:
    """The leases below one directory, a file for each session."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, session_id: str) -> Lease:
        """The session's lease, not yet taken."""
        return Lease(self._directory / f"{session_id}.lock")

    def sweep(self) -> None:
        """Remove the files that nobody holds and nobody has taken for an hour. Touches the disk."""
        before = time.time() - _STALE_S
        for path in self._directory.glob("*.lock"):
            try:
                if path.stat().st_mtime < before:
                    self._remove(path)
            except OSError:  # another sweep was first
                continue

    def _remove(self, path: Path) -> None:
        lease = Lease(path)
        try:
            # Only while it is ours, and old: whoever is about to take it has the same file open.
            if lease.take():
                path.unlink(missing_ok=True)
        finally:
            lease.release()
