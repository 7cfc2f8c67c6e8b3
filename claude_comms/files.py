"""Files of our state: private whatever the umask says, replaced whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from claude_comms.errors import ConfigError

__all__ = ["make_private", "private_dir", "write_private"]


def private_dir(path: Path) -> Path:
    """Make `path` and the parents it lacks, each 0700, and return it. ConfigError where that is impossible."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        # One by one: `parents=True` leaves the mode of those between to the umask.
        for directory in (*reversed(missing), path):
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"cannot use {path} as a private directory: {error.strerror or error}."
            " Choose another with CLAUDE_COMMS_HOME."
        ) from error
    return path


def make_private(path: Path) -> None:
    """Make the file `path` exist with mode 0600."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.chmod(0o600)


def write_private(path: Path, text: str) -> None:
    """Replace `path` with `text` in one step (0600, UTF-8). A reader sees the old file or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, 0o600)  # mkstemp lets the umask take from it
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
