"""The idle instances, found by what they are for and by how long they have had nothing to do."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.background.instance import Instance
    from claude_comms.types import InstanceSpec

__all__ = ["IdleInstances"]


class IdleInstances:
    """Every look-up takes the same time, however many there are."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Instance] = OrderedDict()
        self._by_spec: dict[InstanceSpec, OrderedDict[str, Instance]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, instance: Instance) -> None:
        """It has just become idle."""
        self.discard(instance)
        self._all[instance.instance_id] = instance
        self._by_spec.setdefault(instance.spec, OrderedDict())[instance.instance_id] = instance

    def discard(self, instance: Instance) -> None:
        """It is not idle, or not any more."""
        if self._all.pop(instance.instance_id, None) is None:
            return
        alike = self._by_spec[instance.spec]
        del alike[instance.instance_id]
        if not alike:
            del self._by_spec[instance.spec]

    def of(self, spec: InstanceSpec) -> Instance | None:
        """The one for `spec` that has been idle longest: its conversation is the least likely to go on."""
        alike = self._by_spec.get(spec)
        return next(iter(alike.values())) if alike else None

    def oldest(self) -> Instance | None:
        """The one that has been idle longest of all."""
        return next(iter(self._all.values()), None)
