"""The terminal handed to the command that attaches to an instance, and taken back."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from textual.app import SuspendNotSupported

if TYPE_CHECKING:
    from claude_comms.tui._view import View

__all__ = ["attach"]


def attach(view: View[Any], instance_id: str) -> None:
    """Run ``attach-instance`` here until its user leaves it. The monitor waits, and misses no event meanwhile."""
    command = [sys.executable, "-P", "-m", "claude_comms", "attach-instance", instance_id]
    try:
        with view.monitor.suspend():
            subprocess.run(command, check=False)  # noqa: S603 - our own command
            _wait_for_reader()
    except SuspendNotSupported:
        view.complain(f"this terminal cannot be handed over. Elsewhere: claude-comms attach-instance {instance_id}")


def _wait_for_reader() -> None:
    """What the command said would be gone at once."""
    sys.stdout.write("\nEnter goes back to the monitor. ")
    sys.stdout.flush()
    sys.stdin.readline()
