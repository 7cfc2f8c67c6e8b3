"""What the routes have in common: the engine, and the server around it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from fastapi import Depends
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI looks it up

from claude_comms.daemon.server._answers import Refusal
from claude_comms.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_comms.daemon.server._limits import Limits
    from claude_comms.daemon.server._metrics import Metrics
    from claude_comms.daemon.server._turns import Turns
    from claude_comms.events import EventBus
    from claude_comms.protocols import HostedEngine
    from claude_comms.settings import Settings

__all__ = ["Service", "ServiceOf"]


def _no_connections() -> int:
    return 0


@dataclass(slots=True)
class Service:
    """One daemon as its routes see it. `listen` and `request_stop` are the server's."""

    engine: HostedEngine
    bus: EventBus
    settings: Settings
    turns: Turns
    metrics: Metrics
    limits: Limits
    version: str
    digest: str
    """The settings' digest; see `wire.handshake`."""
    listen: Callable[[str], Awaitable[str]]
    request_stop: Callable[[float | None], None]
    socket: str | None = None
    listens_on: str | None = None
    draining: bool = False
    connections: Callable[[], int] = _no_connections
    closing: anyio.Event = field(default_factory=anyio.Event)
    """Set when all is told and the doors close."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _began: float = field(default_factory=time.monotonic)

    @property
    def uptime_s(self) -> float:
        """Since the start, whatever the clock on the wall does."""
        return time.monotonic() - self._began

    def admit(self) -> None:
        """Refusal (503) of anything new once the daemon stops."""
        if self.draining:
            raise Refusal(DaemonError("the daemon is stopping. Ask again in a moment: it is started anew then."), 503)

    def status(self) -> dict[str, Any]:
        """What ``GET /v1/daemon`` tells."""
        return {
            "running": True,
            "pid": os.getpid(),
            "version": self.version,
            "socket": self.socket,
            "listen": self.listens_on,
            "token_file": str(self.settings.home / "daemon.token"),
            "log_file": str(self.settings.home / "logs" / "daemon.jsonl"),
            "home": str(self.settings.home),
            "started_at": self.started_at.isoformat(),
            "uptime_s": self.uptime_s,
            "draining": self.draining,
            "turns_running": self.turns.running,
            "connections": self.connections(),
        }


async def _service(connection: HTTPConnection) -> Service:
    return connection.app.state.service


ServiceOf = Annotated[Service, Depends(_service)]
"""How a route asks for it."""
