"""Which processes still live: each holds a lock on a file of its own, and the system frees it however it dies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from claude_comms.errors import StoreError
from claude_comms.files import private_dir
from claude_comms.types import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OwnerLock"]

_LOCK_WITHIN_S = 2.0


class OwnerLock:
    """The sign of life of one user of the database at `database_path`: `owner_id`, and a lock held until `release`.

    The lock is the kernel's (flock): kill -9 frees it, and no other process can take it for alive. Beside the
    database stands a directory ``<database>.owners`` with a file for each owner.
    """

    def __init__(self, database_path: Path) -> None:
        self.owner_id = new_id("o")
        self._directory = Path(f"{database_path}.owners")
        # Not 0: someone who sweeps may hold the new file for a moment.
        self._lock = FileLock(self._file(self.owner_id), timeout=_LOCK_WITHIN_S, mode=0o600, thread_local=False)

    def acquire(self) -> None:
        """Be alive from now on. StoreError where the file cannot be made."""
        try:
            private_dir(self._directory)
            self._lock.acquire()
        except (OSError, Timeout) as error:
            raise StoreError(
                f"{self._directory} cannot be used: {error}. Make it yours, or choose another store."
            ) from error

    def release(self) -> None:
        """Be gone: what is still pending in this owner's name may be marked by others."""
        self._file(self.owner_id).unlink(missing_ok=True)
        self._lock.release()

    def dead_owners(self, owner_ids: Iterable[str]) -> set[str]:
        """Those of `owner_ids` whose process is gone; their files go, too. It touches the disk: not for event loops."""
        return {owner_id for owner_id in owner_ids if owner_id != self.owner_id and self._is_dead(owner_id)}

    def sweep(self) -> None:
        """Remove the files that dead processes have left. Touches the disk: not for an event loop."""
        self.dead_owners(file.stem for file in self._directory.glob("*.lock"))

    def _is_dead(self, owner_id: str) -> bool:
        path = self._file(owner_id)
        if not path.exists():
            return True  # an owner locks its file before it writes its id anywhere, and removes it when it ends
        try:
            # Two processes that look at once see each other's lock; whoever is second looks again next time.
            with FileLock(path, timeout=0, thread_local=False):
                path.unlink(missing_ok=True)
        except Timeout:
            return False
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}. Make it yours, or choose another store.") from error
        return True

    def _file(self, owner_id: str) -> Path:
        return self._directory / f"{owner_id}.lock"
