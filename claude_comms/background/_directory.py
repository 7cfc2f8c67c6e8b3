"""The instances of a pool, found by id, by name, or by the beginning of an id."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError, InstanceNotFoundError
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.background.instance import Instance

__all__ = ["Directory"]

_ENDED_KEPT = 100


class Directory:
    """The living ones, oldest first, those that failed, and the latest that were stopped.

    One that failed is kept apart until it is stopped: somebody has to see it, and it takes no place.
    """

    def __init__(self) -> None:
        self._living: dict[str, Instance] = {}
        self._failed: dict[str, Instance] = {}
        self._ended: deque[Instance] = deque(maxlen=_ENDED_KEPT)

    def __len__(self) -> int:
        return len(self._living)

    def __iter__(self) -> Iterator[Instance]:
        return iter(tuple(self._living.values()))

    @property
    def ended(self) -> tuple[Instance, ...]:
        """The latest 100 that stopped and the latest 100 that failed, oldest first."""
        return (*self._ended, *self._failed.values())

    @property
    def failed(self) -> tuple[Instance, ...]:
        """The latest 100 that failed and were not stopped since, oldest first."""
        return tuple(self._failed.values())

    def add(self, instance: Instance) -> None:
        """It lives."""
        self._living[instance.instance_id] = instance

    def bury(self, instance: Instance) -> bool:
        """It has ended; whether it was among the living until now."""
        key = instance.instance_id
        lived = self._living.pop(key, None) is not None
        # what was only kept ready is started again by itself, and its failures would crowd out the others
        if instance.state is InstanceState.FAILED and not instance.kept_ready:
            self._failed[key] = instance
            if len(self._failed) > _ENDED_KEPT:
                next(iter(self._failed.values())).dismiss(f"{_ENDED_KEPT} others have failed since")
        elif lived or self._failed.pop(key, None) is not None:
            self._ended.append(instance)
        return lived

    def clear_failed(self, name: str) -> None:
        """Another one has the name now: those that failed under it are stopped."""
        for instance in self.failed:
            if instance.name == name:
                instance.dismiss("another one was started in its place")

    def check_free(self, *, name: str | None, instance_id: str | None = None) -> None:
        """ConfigError if a living one has the name or the id."""
        if name is not None and any(instance.name == name for instance in self._living.values()):
            raise ConfigError(f"an instance named {name!r} is running. Choose another name, or stop that one.")
        if instance_id in self._living:
            raise ConfigError(f"instance {instance_id} is here already. Take it back once.")

    def get(self, wanted: str) -> Instance:
        """See `Pool.get`."""
        known = [*self._living.values(), *reversed(self._failed.values()), *reversed(self._ended)]
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
