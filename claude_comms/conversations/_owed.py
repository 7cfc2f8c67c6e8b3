"""Ends of turns that the store could not take when they came: its disk was full, or somebody held it locked."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import anyio

from claude_comms.conversations import _turns
from claude_comms.errors import StoreError

if TYPE_CHECKING:
    from claude_comms.storage import Database

__all__ = ["OwedEnds"]

_AFTER_S = 1.0
"""How long after a failure, or a try that failed, the next one is."""


class OwedEnds:
    """Kept here until they are written: a question without an end would keep its thread busy as long as we live."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends: dict[str, _turns.Ending] = {}
        self._some = anyio.Event()

    def __bool__(self) -> bool:
        return bool(self._ends)

    def add(self, question_id: str, ending: _turns.Ending) -> None:
        """The question's end may be on disk all the same; if not, this is it."""
        self._ends[question_id] = ending
        self._some.set()

    async def settle(self) -> None:
        """Write them. StoreError where that is still not possible."""
        for question_id, ending in tuple(self._ends.items()):
            await self._database.write(functools.partial(_turns.end_if_pending, question_id=question_id, ending=ending))
            self._ends.pop(question_id, None)

    async def keep_settling(self) -> None:
        """Write them as soon as that is possible. Never ends."""
        while True:
            await self._some.wait()
            await anyio.sleep(_AFTER_S)
            with contextlib.suppress(StoreError):
                await self.settle()
            if not self._ends:
                self._some = anyio.Event()
