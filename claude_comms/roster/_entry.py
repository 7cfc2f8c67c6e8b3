"""An instance as it is to come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from claude_comms.types import InstanceLimits, Record, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["RosterEntry"]


@dataclass(frozen=True, slots=True)
class RosterEntry(Record):
    """What is to be known of an instance to have it again, hibernated or failed, in another process.

    There is no place here for the values of its environment: they may be secrets, and a roster is kept on disk.
    An instance that was given variables must not come back without them, because it might do something else than
    it was set up for (reach another API, run without a guard); see `restorable`.
    """

    instance_id: str
    source: str
    target: str
    backend: str
    created_at: datetime
    last_used_at: datetime
    name: str | None = None
    model: str | None = None
    grants: tuple[str, ...] = ()
    limits: InstanceLimits = field(default_factory=InstanceLimits)
    environment: tuple[str, ...] = ()
    """The names of its variables, sorted. A mapping, or pairs, are reduced to their names here."""
    directory: str | None = None
    thread_id: str | None = None
    """The conversation that it held."""
    state: str = "idle"
    """As it is to come back: ``idle``, ``paused`` or ``failed``."""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    restarts: int = 0
    failure: str | None = None
    """Why it failed, where it has."""
    own_thread_id: str | None = None
    """The conversation in which it was last asked by its id."""

    def __post_init__(self) -> None:
        given = cast("Iterable[str | tuple[str, str]]", self.environment)
        names = sorted({item if isinstance(item, str) else item[0] for item in given})
        object.__setattr__(self, "environment", tuple(names))

    @property
    def restorable(self) -> bool:
        """Whether all that it needs is here. Whoever restores instances leaves the others out, and says so."""
        return not self.environment

    @property
    def refusal(self) -> str | None:
        """Why it cannot be restored, and what to do; None where it can."""
        if self.restorable:
            return None
        called = f" --name {self.name}" if self.name else ""
        return (
            f"the instance {self.instance_id} was started with variables of its own ({', '.join(self.environment)}),"
            " whose values are not kept on disk. Start it again with them:"
            f" claude-comms start-instance{called} --from {self.source} --to {self.target}"
        )
