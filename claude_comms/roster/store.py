"""The roster on disk."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from claude_comms.roster._entry import RosterEntry
from claude_comms.roster._tables import roster
from claude_comms.types import InstanceLimits, Usage

if TYPE_CHECKING:
    import builtins

    from sqlalchemy import Connection, Row

    from claude_comms.storage import Database

__all__ = ["RosterStore"]

_JSON = ("grants", "limits", "environment", "usage")


class RosterStore:
    """The instances that are to exist, in `database`. What a method has returned is on disk.

    Of environments only the names are kept. Every method raises StoreError where the database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, *entries: RosterEntry) -> None:
        """Keep entries, in the place of what was known of the same instances, in one commit."""
        rows = [_values(entry) for entry in entries]

        def write(connection: Connection) -> None:
            for values in rows:
                adding = insert(roster).values(values)
                connection.execute(adding.on_conflict_do_update(index_elements=["instance_id"], set_=values))

        if rows:
            await self._database.write(write)

    async def remove(self, instance_id: str) -> None:
        """Forget an instance; nothing happens where it is not known."""
        gone = delete(roster).where(roster.c.instance_id == instance_id)
        await self._database.write(lambda connection: connection.execute(gone) and None)

    async def list(self) -> builtins.list[RosterEntry]:
        """All of them, the oldest first."""
        query = select(roster).order_by(roster.c.created_at, roster.c.instance_id)
        return await self._database.read(lambda connection: [_entry(row) for row in connection.execute(query)])


def _values(entry: RosterEntry) -> dict[str, Any]:
    values = {column.name: getattr(entry, column.name) for column in roster.columns}
    values |= {"state": str(entry.state), "limits": entry.limits.as_dict(), "usage": entry.usage.as_dict()}
    return values | {name: json.dumps(values[name]) for name in _JSON}


def _entry(row: Row[Any]) -> RosterEntry:
    limits = json.loads(row.limits)
    known = {item.name for item in fields(InstanceLimits)}
    return RosterEntry(
        instance_id=row.instance_id,
        source=row.source,
        target=row.target,
        backend=row.backend,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        name=row.name,
        model=row.model,
        grants=tuple(json.loads(row.grants)),
        limits=InstanceLimits(**{name: value for name, value in limits.items() if name in known}),
        environment=tuple(json.loads(row.environment)),
        directory=row.directory,
        thread_id=row.thread_id,
        state=row.state,
        turns=row.turns,
        usage=Usage(**json.loads(row.usage)),
        restarts=row.restarts,
        failure=row.failure,
        own_thread_id=row.own_thread_id,
    )
