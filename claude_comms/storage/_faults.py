"""What SQLite and the file system complain about, told as a StoreError that ends with what to do."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError, StatementError

from claude_comms.errors import ClaudeCommsError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["advice_on", "translated"]

_FULL = "the disk is full. Free some space and ask again; what was acknowledged is safe."
_DENIED = "permission denied. Make the file and its directory yours, or choose another store."
_DAMAGED = (
    "it is damaged, or not a database. Move it away and put back a backup that stands beside it"
    " (the name has .backup- in it), or begin a new one."
)
_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process holds it locked. Try again; see who has it open if this stays.",
    sqlite3.SQLITE_LOCKED: "another process holds it locked. Try again; see who has it open if this stays.",
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: "it cannot be written to. Make the file and its directory writable.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check that its directory exists and is yours.",
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_AUTH: _DENIED,
    sqlite3.SQLITE_IOERR: "reading or writing the disk failed. Check the disk.",
    sqlite3.SQLITE_TOOBIG: "a text is longer than SQLite can hold. Send less.",
}
_OS_ADVICE = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _DENIED, errno.EPERM: _DENIED}


def translated(error: BaseException, path: Path) -> BaseException:
    """`error` as a StoreError about the store at `path`, if it is the database's or the system's; else itself.

    Each call gives a fresh exception, so that several waiting callers can be told of one fault.
    """
    if isinstance(error, ClaudeCommsError):
        return error
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    message: str | None = None
    if isinstance(cause, UnicodeEncodeError):
        message = "the text is not valid Unicode (it has a lone surrogate). Pass clean text."
    elif isinstance(cause, sqlite3.Error):
        message = f"the store {path}: {_sqlite_advice(cause)}"
    elif isinstance(cause, OSError):
        reason = advice_on(cause) or f"{cause.strerror or cause}. Check the path and the disk."
        message = f"the store {path}: {reason}"
    elif isinstance(error, SQLAlchemyError):
        message = f"the store {path}: {error}. Close it and open it again."
    if message is None:
        return error
    told = StoreError(message)
    told.__cause__ = error
    return told


def advice_on(error: BaseException) -> str | None:
    """What is wrong and what to do, where `error` is a known fault of the disk, the file or its owner."""
    if isinstance(error, OSError):
        return _OS_ADVICE.get(error.errno or 0)
    # Errors that the sqlite3 module raises by itself carry no code.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return _ADVICE.get(code & 0xFF) if code is not None else None


def _sqlite_advice(error: sqlite3.Error) -> str:
    advice = advice_on(error)
    return f"{advice} ({error})" if advice else f"{error}. Check the file, or choose another store."
