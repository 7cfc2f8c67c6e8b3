"""The instances with nothing to do, found by what they are for and by how long they have rested."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.background.instance import Instance
    from claude_comms.types import InstanceSpec

__all__ = ["IdleInstances"]

_Line = OrderedDict[str, "Instance"]


class IdleInstances:
    """Idle and hibernated ones. Every look-up takes the same time, however many there are.

    What an instance is good for is judged when it is added: add it again when that has changed.
    """

    def __init__(self) -> None:
        self._where: dict[str, tuple[int, int]] = {}
        self._by_spec: dict[InstanceSpec, dict[int, _Line]] = {}
        self._by_worth: dict[int, _Line] = {worth: OrderedDict() for worth in range(5)}

    def __len__(self) -> int:
        return len(self._where)

    def add(self, instance: Instance) -> None:
        """It has just nothing to do any more, or is not any more what it was."""
        self.discard(instance)
        key, fitness, worth = instance.instance_id, _fitness(instance), _worth(instance)
        self._where[key] = (fitness, worth)
        self._by_spec.setdefault(instance.spec, {}).setdefault(fitness, OrderedDict())[key] = instance
        self._by_worth[worth][key] = instance

    def discard(self, instance: Instance) -> None:
        """It has something to do, or has ended."""
        where = self._where.pop(instance.instance_id, None)
        if where is None:
            return
        fitness, worth = where
        del self._by_worth[worth][instance.instance_id]
        alike = self._by_spec[instance.spec]
        del alike[fitness][instance.instance_id]
        if not alike[fitness]:
            del alike[fitness]
        if not alike:
            del self._by_spec[instance.spec]

    def of(self, spec: InstanceSpec) -> Instance | None:
        """The one for a new conversation of `spec`: warm and without a conversation, else warm, else any.

        Of the warm ones, those that were asked by their id come last: somebody goes on with them.
        Among equals the one that has rested longest: its conversation is the least likely to go on. One that has
        used up its budget only where there is no other.
        """
        alike = self._by_spec.get(spec)
        return next(iter(alike[min(alike)].values())) if alike else None

    def least(self, *, hibernated_only: bool = False) -> Instance | None:
        """The one whose place is given up first, and of equals the one that has rested longest.

        Hibernated before warm, those without a name before those with one, those kept ready last.
        """
        for worth, line in self._by_worth.items():
            if line and not (hibernated_only and worth):
                return next(iter(line.values()))
        return None


def _fitness(instance: Instance) -> int:
    if instance.budget.exceeded is not None:
        return 4
    if not instance.warm:
        return 3
    if instance.own_thread_id is not None:
        return 2
    return 1 if instance.thread_id is not None else 0


def _worth(instance: Instance) -> int:
    if instance.kept_ready:
        return 4
    return (2 if instance.name is not None else 0) + (1 if instance.warm else 0)
