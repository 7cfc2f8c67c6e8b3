"""How a program reaches the daemon: an engine that is elsewhere.

Needs h11, websockets and pydantic; nothing of what answers questions or stores them.
"""

from __future__ import annotations

from claude_comms.daemon.client._engine import RemoteEngine

__all__ = ["RemoteEngine"]
