"""The instances, and what the chosen one says."""

from __future__ import annotations

from claude_comms.tui.instances._view import InstancesView

__all__ = ["InstancesView"]
