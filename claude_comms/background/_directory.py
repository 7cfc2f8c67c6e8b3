"""The instances of a pool, found by id, by name, or by the beginning of an id."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError, InstanceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.background.instance import Instance

__all__ = ["Directory"]

_ENDED_KEPT = 100


class Directory:
    """The living ones, oldest first, and the latest that ended."""

    def __init__(self) -> None:
        self._living: dict[str, Instance] = {}
        self._ended: deque[Instance] = deque(maxlen=_ENDED_KEPT)

    def __len__(self) -> int:
        return len(self._living)

    def __iter__(self) -> Iterator[Instance]:
        return iter(tuple(self._living.values()))

    @property
    def ended(self) -> tuple[Instance, ...]:
        """The latest 100 that stopped or failed, oldest first."""
        return tuple(self._ended)

    def add(self, instance: Instance) -> None:
        """It lives."""
        self._living[instance.instance_id] = instance

    def bury(self, instance: Instance) -> bool:
        """It has ended; whether it was among the living until now."""
        if self._living.pop(instance.instance_id, None) is None:
            return False
        self._ended.append(instance)
        return True

    def check_free(self, *, name: str | None, instance_id: str | None = None) -> None:
        """ConfigError if a living one has the name or the id."""
        if name is not None and any(instance.name == name for instance in self._living.values()):
            raise ConfigError(f"an instance named {name!r} is running. Choose another name, or stop that one.")
        if instance_id in self._living:
            raise ConfigError(f"instance {instance_id} is here already. Take it back once.")

    def get(self, wanted: str) -> Instance:
        """See `Pool.get`."""
        known = [*self._living.values(), *reversed(self._ended)]
        for instance in known:
            if wanted in (instance.instance_id, instance.name):
                return instance
        fitting = [instance for instance in known if wanted and instance.instance_id.startswith(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            ids = ", ".join(instance.instance_id for instance in fitting[:10])
            raise InstanceNotFoundError(
                f"{wanted!r} fits several instances: {ids}. Give more of the id.", instance_id=wanted
            )
        raise InstanceNotFoundError(f"no instance {wanted!r}. See: claude-comms list-instances", instance_id=wanted)
