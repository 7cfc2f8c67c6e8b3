"""What a daemon gets from those above it: its guardian's lifeline, and the pipe on which its starter waits."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from claude_comms.errors import ClaudeCommsError

__all__ = ["Guardian", "Starter"]


@dataclass(frozen=True, slots=True)
class Guardian:
    """Who guards this process. `lifeline` becomes readable when the guardian is gone."""

    pid: int
    lifeline: int

    @classmethod
    def taken(cls) -> Self | None:
        """The guardian that this process's environment names; None where there is none. Nobody inherits it further."""
        pid, _, lifeline = os.environ.pop("CLAUDE_COMMS_GUARDIAN", "").partition(":")
        if not (pid.isdigit() and lifeline.isdigit()):
            return None
        try:
            os.set_inheritable(int(lifeline), False)  # noqa: FBT003
        except OSError:
            return None
        return cls(int(pid), int(lifeline))

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        return os.getppid() == self.pid


@dataclass(slots=True)
class Starter:
    """Whoever started this daemon in the background and waits to hear of it."""

    _pipe: int | None = field(default=None)

    @classmethod
    def taken(cls) -> Self:
        """The starter that this process's environment names, if one does. Nobody inherits it further."""
        pipe = os.environ.pop("CLAUDE_COMMS_READY_FD", "")
        if not pipe.isdigit():
            return cls()
        try:
            os.set_inheritable(int(pipe), False)  # noqa: FBT003
        except OSError:
            return cls()
        return cls(int(pipe))

    def ready(self) -> None:
        """The daemon serves."""
        self._tell({"ready": True})

    def beaten(self) -> None:
        """Another daemon of this home lives."""
        self._tell({"ready": False})

    def failed(self, error: ClaudeCommsError) -> None:
        """The daemon cannot serve."""
        self._tell({"error": error.as_dict()})

    def _tell(self, values: dict[str, object]) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with suppress(OSError):  # nobody waits any more
                os.write(pipe, json.dumps(values).encode() + b"\n")
            os.close(pipe)
