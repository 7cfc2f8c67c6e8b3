"""`registry.json` in the home: which modules the user registered, with their paths, files and grants."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from claude_comms.errors import ConfigError
from claude_comms.files import private_dir, write_private

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Registration", "Registrations", "changing", "read_registrations"]

_LOCK_WAIT_S = 10.0


class Registration(BaseModel):
    """One registered module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    """The module's own directory."""
    file: Path | None = None
    """Its descriptor; None where the directories that are scanned have it."""
    granted: tuple[str, ...] = ()
    """The wider grants that the user agreed to."""
    servers: dict[str, str] = {}
    """The definitions of the MCP servers among them that the user agreed to: digests by name."""
    written: str | None = None
    """The digest of what we wrote to `file`; None where the file is the user's."""


class Registrations(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    modules: dict[str, Registration] = {}


def read_registrations(path: Path) -> Registrations:
    """What `path` holds; nothing where it does not exist. ConfigError where it cannot be understood."""
    try:
        return Registrations.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Registrations()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}. Correct its permissions.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path} is damaged: {place + ': ' if place else ''}{first['msg']}."
            " Repair it, or move it away and register your modules again."
        ) from error


@contextmanager
def changing(path: Path) -> Generator[Registrations]:
    """The registrations, to be changed and written back whole, while no other process does the same.

    Nothing is written where the block raises. ConfigError where another process holds the lock for 10 s.
    """
    from filelock import FileLock, Timeout

    private_dir(path.parent)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_WAIT_S, mode=0o600):
            registrations = read_registrations(path)
            yield registrations
            write_private(path, registrations.model_dump_json(indent=2) + "\n")
    except Timeout as error:
        raise ConfigError(
            f"{path} is being changed by another process since {_LOCK_WAIT_S:.0f} s. Try again when it has ended."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}. Make room or permit it.") from error
