"""Where the daemon is, asked anew whenever it is not where it was: it may have been started again."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from claude_comms.daemon._life import ensure, find, require_same_version
from claude_comms.daemon.wire import settings_digest
from claude_comms.errors import DaemonError, DaemonNotRunningError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.daemon._places import DaemonInfo
    from claude_comms.settings import Settings

__all__ = ["Finder", "Patience", "pauses"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


def pauses() -> Iterator[float]:
    """How long to wait before each further try, in seconds: longer and longer, and never two clients in step."""
    pause = _FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        pause = min(pause * 2, _LONGEST_PAUSE_S)


class Patience:
    """How long to try again what the daemon would not do: `limit_s` seconds from the first refusal."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._give_up: float | None = None
        self._pauses = pauses()

    async def wait(self, error: Exception) -> None:
        """Wait before the next try, or raise `error` where it would come too late."""
        now = anyio.current_time()
        if self._give_up is None:
            self._give_up = now + self._limit_s
        pause = next(self._pauses)
        if now + pause > self._give_up:
            raise error
        await anyio.sleep(pause)


class Finder:
    """Finds the daemon of a home. With `starts` it starts one where none runs.

    With `adopts` it takes the daemon's settings as they are, whatever they are here.
    """

    def __init__(self, settings: Settings, *, starts: bool, adopts: bool = False) -> None:
        self.settings = settings
        self.starts = starts
        self._adopts = adopts

    async def find(self) -> DaemonInfo:
        """The running daemon. DaemonNotRunningError without one, DaemonVersionError where it is another version."""
        info = find(self.settings)
        if info is None and self.starts:
            # Not abandoned when cancelled: what was begun to be started is found by whoever asks next.
            info = await to_thread.run_sync(functools.partial(ensure, self.settings), abandon_on_cancel=True)
        if info is None:
            raise DaemonNotRunningError(
                f"no daemon is running for {self.settings.home}. Start it: claude-comms daemon start"
            )
        require_same_version(info)
        return info

    def digest(self, info: DaemonInfo) -> str | None:
        """What the daemon compares its own settings with; None where nothing is to be compared."""
        if self._adopts:
            return None
        try:
            key = info.token_file.read_text(encoding="utf-8")
        except OSError as error:
            raise DaemonError(
                f"{info.token_file} cannot be read: {error.strerror}. Restart the daemon: claude-comms daemon restart"
            ) from error
        return settings_digest(self.settings, key)
