"""Where a daemon's files are, and what they say of it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from claude_comms.errors import DaemonError
from claude_comms.files import private_dir, write_private
from claude_comms.types import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DaemonInfo", "Places", "forget", "is_held_by", "read_info", "require_ours", "require_place", "write_info"]

_LONGEST_SOCKET_BYTES = 100
"""A Unix socket's path may have 107 bytes on Linux and 103 on macOS."""


@dataclass(frozen=True, slots=True)
class Places:
    """The files of the daemon of one home."""

    home: Path

    @property
    def socket(self) -> Path:
        """Where it listens: in the home, or in a place of our own with a short path."""
        usual = self.home / "daemon.sock"
        return usual if len(os.fsencode(usual)) <= _LONGEST_SOCKET_BYTES else self._short() / "daemon.sock"

    @property
    def lock(self) -> Path:
        """Locked by the living daemon, and freed by the kernel however it dies."""
        return self.home / "daemon.lock"

    @property
    def info(self) -> Path:
        """What the living daemon says of itself."""
        return self.home / "daemon.json"

    @property
    def token(self) -> Path:
        """What lets clients in that do not come by the socket."""
        return self.home / "daemon.token"

    @property
    def logs(self) -> Path:
        """The directory of its logs."""
        return self.home / "logs"

    @property
    def log(self) -> Path:
        """Its log, as JSON lines."""
        return self.logs / "daemon.jsonl"

    @property
    def output(self) -> Path:
        """What it printed beside its log: tracebacks from before the log was open, and from the interpreter."""
        return self.logs / "daemon.err"

    def _short(self) -> Path:
        name = hashlib.blake2b(os.fsencode(self.home.resolve()), digest_size=8).hexdigest()
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(runtime) if runtime.startswith("/") and len(runtime) <= 40 else _temporary()
        return base / f"claude-comms-{os.getuid()}-{name}"

    def prepare(self) -> None:
        """Make the directories, 0700. ConfigError where that is impossible, DaemonError where one is not ours."""
        private_dir(self.home)
        private_dir(self.logs)
        if self.socket.parent != self.home:
            # The directory above it is everybody's: somebody else may have been there first.
            with suppress(FileExistsError):
                self.socket.parent.mkdir(mode=0o700)
            require_ours(self.socket.parent)
        require_place(self.socket)


def _temporary() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= 40 else Path("/tmp")  # noqa: S108 - checked by `require_ours`


def require_ours(directory: Path) -> None:
    """DaemonError unless `directory` is a directory of this user that nobody else can enter."""
    try:
        found = directory.lstat()
    except OSError as error:
        raise DaemonError(f"{directory} cannot be used: {error.strerror}. Set a shorter CLAUDE_COMMS_HOME.") from error
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    if not ours:
        raise DaemonError(
            f"{directory} is not a directory of your own with mode 0700, so no socket is put there."
            " Remove it, or set a shorter CLAUDE_COMMS_HOME."
        )


def require_place(socket: Path) -> None:
    """DaemonError where something is in a socket's place that is no socket of this user's: it is not ours to remove."""
    with suppress(FileNotFoundError):
        found = socket.lstat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
            raise DaemonError(
                f"{socket} is in the way: the daemon's socket belongs there, and that is {_what(found)}."
                " Move it away, or set another CLAUDE_COMMS_HOME."
            )


def _what(found: os.stat_result) -> str:
    if found.st_uid != os.getuid():
        return "another user's"
    return "a directory" if stat.S_ISDIR(found.st_mode) else "no socket"


def is_held_by(lock: Path, pid: int) -> bool:
    """Whether the process holds the lock of a home; where processes cannot be looked into, whether anybody does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _has_open(pid, os.fstat(descriptor))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    """So that nobody else is taken for the daemon that has got its number, in another container, say."""
    if not sys.platform.startswith("linux"):
        return True
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), wanted):
                    return True
    return False


@dataclass(frozen=True, slots=True)
class DaemonInfo(Record):
    """What a running daemon says of itself."""

    pid: int
    """Of the daemon itself, not of its guardian."""
    version: str
    socket: Path
    listen: str | None
    """HOST:PORT where it also listens on TCP."""
    token_file: Path
    started_at: str
    """ISO 8601, with the time zone."""
    log_file: Path


_PATHS = ("socket", "token_file", "log_file")


def write_info(places: Places, info: DaemonInfo) -> None:
    """Say what the daemon is, for clients to find."""
    write_private(places.info, json.dumps(info.as_dict()))


def read_info(places: Places) -> DaemonInfo | None:
    """What the last daemon of this home said of itself, alive or dead; None where there was none."""
    try:
        found: Any = json.loads(places.info.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    told = cast("Mapping[str, Any]", found)
    try:
        values: dict[str, Any] = {item.name: told[item.name] for item in fields(DaemonInfo)}
        for name in _PATHS:
            values[name] = Path(values[name])
        return DaemonInfo(**values)
    except (KeyError, TypeError):
        return None


def forget(places: Places) -> None:
    """Remove what a daemon leaves that is no more. Only whoever holds the lock may do so; DaemonError if it cannot."""
    for path in (places.info, places.socket):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DaemonError(f"{path} cannot be removed: {error.strerror}. Move it away by hand.") from error
