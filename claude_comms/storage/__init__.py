"""The SQL engine, its migrations and its one writer; knows no domain."""

from __future__ import annotations

from claude_comms.storage._columns import UtcDateTime
from claude_comms.storage._database import Database
from claude_comms.storage._owners import OwnerLock

__all__ = ["Database", "OwnerLock", "UtcDateTime"]
