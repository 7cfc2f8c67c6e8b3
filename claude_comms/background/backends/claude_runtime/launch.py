"""What is fixed when a process of Claude Code starts, however it is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.types import TurnRequest

__all__ = ["LaunchFacts"]


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """All that is fixed when a process starts."""

    binary: Path
    directory: Path
    environment: Mapping[str, str]
    scratch: Scratch
    system: str
    model: str
    confinement: Confinement
    max_output_tokens: int
    session_id: str
    """Of the new session, or of the one that is resumed."""
    resume: Path | None = None
    """The transcript of the session to resume."""
    position: str | None = None
    """Resume only up to this row; what was interrupted after it is left out."""

    def suits(self, request: TurnRequest) -> bool:
        """Whether a process that was started so is what `request` needs."""
        # The output limit too: kept, a small one would cut off later answers.
        return self.system == request.prompt.system_text and self.max_output_tokens == request.max_output_tokens
