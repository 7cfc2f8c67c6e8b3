"""What makes a daemon reachable, and keeps it so while it lives: its socket, and what it says of itself."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from claude_comms.daemon._places import read_info, write_info
from claude_comms.errors import ClaudeCommsError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_comms.daemon._places import DaemonInfo, Places
    from claude_comms.daemon.server import Server

__all__ = ["Reach", "bound"]

_LOG = logging.getLogger(__name__)
_LOOKS_EVERY_S = 2.0
_BACKLOG = 128


def bound(places: Places) -> socket.socket:
    """The Unix socket, for this user alone from its first moment. DaemonError where it cannot be made."""
    sock = socket.socket(socket.AF_UNIX)
    earlier = os.umask(0o177)
    try:
        sock.bind(str(places.socket))
    except OSError as error:
        sock.close()
        raise DaemonError(
            f"{places.socket} cannot be made: {error.strerror}. Set a shorter CLAUDE_COMMS_HOME."
        ) from error
    finally:
        os.umask(earlier)
    sock.listen(_BACKLOG)
    return sock


class Reach:
    """Made while the home's lock is held: it is compared with what is there later."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = _identity(places.lock)

    async def keep(self, info: DaemonInfo, server: Server, stop: Callable[[], None]) -> None:
        """Put back the socket, and `info`, which the daemon says of itself, when they were removed.

        Once the doors close the daemon says nothing of itself any more, and this ends. It calls `stop` where the
        home's lock is another file than at first: whoever locks that one is the home's daemon.
        """
        closing = server.service.closing
        while not closing.is_set():
            with anyio.move_on_after(_LOOKS_EVERY_S):
                await closing.wait()
                break
            if _identity(self._places.lock) != self._lock:
                _LOG.error("the lock of the home is gone: the daemon stops")
                stop()
                return
            info = await self._put_back(info, server)
        self._places.info.unlink(missing_ok=True)

    async def _put_back(self, info: DaemonInfo, server: Server) -> DaemonInfo:
        try:
            told = read_info(self._places)
            if told is None:
                write_info(self._places, info)
            if _identity(self._places.socket) is None:
                self._places.prepare()
                await server.move_to(bound(self._places))
                _LOG.warning("the daemon's socket was removed, and is there again")
        except (ClaudeCommsError, OSError) as error:
            _LOG.warning("the daemon cannot be reached, and that cannot be mended: %s", error)
            return info
        return told or info


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None
