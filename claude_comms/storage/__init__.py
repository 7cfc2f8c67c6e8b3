"""The SQL engine, its migrations and its one writer; knows no domain."""

from __future__ import annotations

from claude_comms.storage._columns import UtcDateTime, utc_text
from claude_comms.storage._database import Database
from claude_comms.storage._faults import translated
from claude_comms.storage._owners import OwnerLock
from claude_comms.storage._writer import driver_of

__all__ = ["Database", "OwnerLock", "UtcDateTime", "driver_of", "translated", "utc_text"]
